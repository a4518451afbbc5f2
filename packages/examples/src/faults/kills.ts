import { rm } from "node:fs/promises";
import { join } from "node:path";
import { formatSize } from "../model/byte-size.js";
import { writeNoiseModel } from "../model/noise-model.js";
import { arrangementName, arrangements } from "./arrangement.js";
import { type Certificate, makeCertificate } from "./certificate.js";
import { Counts } from "./counts.js";
import { Draws } from "./draws.js";
import { type FaultKind, type FaultOptions, type FaultReport, never } from "./fault-kind.js";
import { CHANGES } from "./kill/change.js";
import { Trial } from "./kill/trial.js";
import { undisturbed } from "./kill/undisturbed.js";
import { CODECS, type CodecChoice, codecName } from "./models.js";
import { sideBySide } from "./side-by-side.js";

/** Interruptions, not transfers: a transfer takes several. */
const USUAL = 220;
const MiB = 2 ** 20;
/** Many windows long, and cut into chunks without a rest. */
const MODEL = { bytes: 64 * MiB, largestBytes: 16 * MiB };
const WINDOWS = [1 * MiB, 2 * MiB];
const CHUNKS = [64 * 1024, 128 * 1024, 256 * 1024];
const WIDTH = 2;

class Kills {
  readonly rows = new Counts();
  readonly broken = {
    end: [] as string[],
    other: [] as string[],
    again: [] as string[],
    strays: [] as string[],
  };
  readonly ways = new Set<string>();
  interruptions = 0;
  transfers = 0;
  resumed = 0;
  measured = 0;
  /** The most that one interruption took back, in windows. */
  worst = 0;
  readonly #wireBytes = new Map<string, Promise<number>>();

  constructor(
    private readonly options: FaultOptions,
    private readonly source: string,
    private readonly certificate: Certificate | undefined,
  ) {}

  async run(number: number): Promise<void> {
    const draws = new Draws(this.options.seed, number);
    const { scratch, say } = this.options;
    const arrangement = draws.pick(arrangements(this.certificate));
    const choice = draws.pick(CODECS);
    const retries = draws.oneIn(4);
    const change = retries ? "nothing" : draws.pick(CHANGES);
    const windowBytes = draws.pick(WINDOWS);
    const options = { ...choice, windowBytes, chunkBytes: draws.pick(CHUNKS) };
    const how = `${arrangementName(arrangement)}, ${codecName(choice)}, ${retries ? "retrying" : "started again"}, source ${change}`;
    const name = `transfer ${number} (${how})`;
    const plan = {
      name: `trial ${number}`,
      ...{ arrangement, options, retries, change, scratch },
      interruptions: draws.between(3, 6),
      source: this.source,
      sourceBytes: MODEL.bytes,
      wireBytes: await this.#measure(choice),
      certificate: this.certificate,
    };
    const trial = new Trial(plan, draws);
    const { interruptions, sentAgain, resumedBytes, broken } = await trial.run();
    this.transfers++;
    this.interruptions += interruptions.length;
    for (const victim of interruptions) this.rows.add(victim);
    this.ways.add(how);
    if (resumedBytes > 0) this.resumed++;
    this.broken.end.push(
      ...broken.filter((what) => !what.startsWith("it left")).map((what) => `${name}: ${what}`),
    );
    this.broken.strays.push(
      ...broken.filter((what) => what.startsWith("it left")).map((what) => `${name}: ${what}`),
    );
    for (const bytes of sentAgain) {
      this.measured++;
      this.worst = Math.max(this.worst, bytes / windowBytes);
      if (bytes >= 2 * windowBytes)
        this.broken.again.push(`${name}: ${bytes} bytes of a window of ${windowBytes}`);
    }
    const expected = join(scratch, `expected-${number}`);
    await undisturbed(trial.source, expected, options);
    if (!(await trial.sameAs(expected))) this.broken.other.push(name);
    await rm(expected);
    await trial.remove();
    say(`${name}: ${interruptions.length} interruptions, ${this.interruptions} in all`);
  }

  /** Bytes on the wire of an undisturbed transfer. */
  #measure(choice: CodecChoice): Promise<number> {
    const name = codecName(choice);
    let known = this.#wireBytes.get(name);
    if (!known) {
      const target = join(this.options.scratch, `measured ${name}`);
      known = undisturbed(this.source, target, { ...choice, windowBytes: 2 * MiB }).then(
        async ({ wireBytes }) => {
          await rm(target);
          return wireBytes;
        },
      );
      this.#wireBytes.set(name, known);
    }
    return known;
  }
}

export const kills: FaultKind = {
  name: "kill",
  about:
    "kill -9 of the sender, of the receiver and of the connection, again and again, until the model is through",
  async run(options): Promise<FaultReport> {
    const source = join(options.scratch, "source.safetensors");
    await writeNoiseModel(source, MODEL);
    const certificate = makeCertificate(options.scratch);
    const run = new Kills(options, source, certificate);
    const until = options.seconds === undefined ? undefined : performance.now() + options.seconds * 1000;
    const end = (): boolean =>
      until === undefined ? run.interruptions >= (options.count ?? USUAL) : performance.now() >= until;
    await sideBySide({ from: options.from, end }, WIDTH, (number) => run.run(number));
    const { broken, interruptions, transfers, measured, worst } = run;
    return {
      rows: [
        ["killed", "times"],
        ...run.rows.rows(),
        ["", ""],
        [`transfers of ${formatSize(MODEL.bytes)}`, transfers],
        ["of them gone on from an earlier process", run.resumed],
        ["ways (channel, direction, codec, source)", run.ways.size],
      ],
      verdicts: [
        never("every transfer ends", broken.end, transfers),
        never(
          "in a file identical to an undisturbed one, of the source as it is at last",
          broken.other,
          transfers,
        ),
        never(
          `less than two windows are sent again for each interruption (at most ${worst.toFixed(2)})`,
          broken.again,
          measured,
        ),
        never("no stray files", broken.strays, transfers),
      ].map((verdict) => ({ ...verdict, figures: `${verdict.figures}, ${interruptions} interruptions` })),
      skipped: certificate ? [] : ["tls: needs openssl"],
    };
  },
};
