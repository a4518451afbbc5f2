import { mkdtemp, rm } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { EndProcess } from "../ends/end-process.js";
import { median } from "../memory/bars.js";
import { type NoiseModelSize, writeNoiseModel } from "../model/noise-model.js";

/** The same bytes, near enough, in 10,000 tensors and in one. */
const SMALL = { bytes: 10_000 * 2 ** 10, largestBytes: 2 ** 10 };
const ONE = { bytes: 10 * 2 ** 20, largestBytes: 10 * 2 ** 20 };

const WARM_UPS = 10;
const RUNS = 15;
/** The bar: this many times the one tensor, or this long, whichever is more. */
const TIMES = 3;
const LEAST_SECONDS = 0.1;

interface Model {
  readonly size: NoiseModelSize;
  readonly path: string;
}

/** A map of tensors in memory, the same tensors yielded one by one, or files; received as an iterator or a file. */
const VARIANTS = ["map", "container", "file"] as const;
type Variant = (typeof VARIANTS)[number];

/** Times transfers between two processes that stay: from connect to receipt, over WebSocket. */
class Bench {
  private constructor(
    private readonly sender: EndProcess<"sender">,
    private readonly receiver: EndProcess<"receiver">,
    private readonly scratch: string,
  ) {}

  static async start(scratch: string): Promise<Bench> {
    // For `node --cpu-prof`: a profile of each end is written where it says.
    const flags = process.env.BENCH_FLAGS?.split(" ") ?? [];
    const [sender, receiver] = await Promise.all([
      EndProcess.start("sender", flags),
      EndProcess.start("receiver", flags),
    ]);
    return new Bench(sender, receiver, scratch);
  }

  /** @param tolerance Checks what arrives: not while the clock runs. */
  async seconds(variant: Variant, { size, path }: Model, tolerance?: number): Promise<number> {
    const target = join(this.scratch, "target.safetensors");
    const receiving = this.receiver.run(
      variant === "file" ? { way: "file", target } : { way: "container", tolerance },
    );
    const url = await receiving.listening;
    const options = { codec: "none" };
    const sending = this.sender.run(
      variant === "file"
        ? { way: "file", source: path, url, options }
        : { way: "container", model: size, held: variant === "map" ? "map" : "all", url, options },
    );
    const [sent] = await Promise.all([sending.done, receiving.done]);
    return sent.seconds;
  }

  async close(): Promise<void> {
    await Promise.all([this.sender.close(), this.receiver.close()]);
  }
}

async function compare(bench: Bench, variant: Variant, small: Model, one: Model): Promise<boolean> {
  const times = { small: [] as number[], one: [] as number[] };
  for (let run = -WARM_UPS; run < RUNS; run++) {
    // In alternating order: what one leaves behind, the other meets, and the other way round.
    const order = run % 2 ? (["small", "one"] as const) : (["one", "small"] as const);
    for (const which of order) {
      const seconds = await bench.seconds(variant, which === "small" ? small : one, run < 0 ? 0 : undefined);
      if (run >= 0) times[which].push(seconds);
    }
  }
  const [many, single] = [median(times.small), median(times.one)];
  const limit = Math.max(TIMES * single, LEAST_SECONDS);
  const pass = many <= limit;
  console.log(
    `${pass ? "PASS" : "FAIL"}  ${variant.padEnd(9)}  10,000 x 1 KiB ${milliseconds(many)}  (${spread(times.small)})` +
      `   1 x 10 MiB ${milliseconds(single)}  (${spread(times.one)})   at most ${milliseconds(limit)}`,
  );
  return pass;
}

const milliseconds = (seconds: number): string => `${(seconds * 1000).toFixed(1).padStart(6)} ms`;

const spread = (times: readonly number[]): string =>
  `${(Math.min(...times) * 1000).toFixed(0)} to ${(Math.max(...times) * 1000).toFixed(0)}`;

async function main(): Promise<void> {
  const scratch = await mkdtemp(join(tmpdir(), "tensorwire-bench-"));
  const small = { size: SMALL, path: join(scratch, "small.safetensors") };
  const one = { size: ONE, path: join(scratch, "one.safetensors") };
  await writeNoiseModel(small.path, SMALL);
  await writeNoiseModel(one.path, ONE);
  console.log(
    `Small tensors over WebSocket, from connect to receipt, warm processes: medians of ${RUNS} after ${WARM_UPS};` +
      ` Node ${process.versions.node}, ${availableParallelism()} cores`,
  );
  const bench = await Bench.start(scratch);
  try {
    for (const variant of VARIANTS) {
      if (!(await compare(bench, variant, small, one))) process.exitCode = 1;
    }
  } finally {
    await bench.close();
    await rm(scratch, { recursive: true, force: true });
  }
}

await main();
