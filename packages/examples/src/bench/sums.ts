import { cpus } from "node:os";
import { type CodecBackend, defaultCodecs } from "@tensorwire/core";
import { instructionSets, loadNativeBackend } from "@tensorwire/quant-native";
import { Command } from "commander";
import { median } from "../memory/bars.js";
import { CODEC_CASES, type CodecCase, NORMFLOAT4 } from "./codec-cases.js";
import { CHUNK_BYTES } from "./codec-chunks.js";
import { normalMemory, touchedMemory } from "./codec-memory.js";

/** Clients whose chunks are added to the same sums, one after the other, as an aggregate does. */
const CLIENTS = 8;
const FULL = { chunks: 8, runs: 9 };
const QUICK = { chunks: 1, runs: 1 };

/** GB/s of a client's model: what the addon's fastest kernels must reach, so that an aggregate can reach 3.0 and 1.5. */
const BARS = { f32: 5, f64: 2.5 } as const;

const COLUMNS = ["f32", "f64", "f32 verified", "f64 verified", "finite", "finite verified"] as const;
type Column = (typeof COLUMNS)[number];

/** A client's chunk. */
interface Payload {
  readonly bytes: Uint8Array;
  readonly hash: bigint;
}

const program = new Command("sums")
  .description(
    "The speed of adding payloads of every codec to sums, and of looking for values that are not finite.",
  )
  .option("--quick", "a glance: one chunk a client, one run, no bars")
  .option("--json", "print one object instead of the table");

/** Chunk by chunk, each client's: distinct memory, so that no payload comes from a cache that another one filled. */
async function payloadsOf(given: CodecCase, chunks: number, backend: CodecBackend): Promise<Payload[][]> {
  const elements = CHUNK_BYTES / 4;
  const codec = defaultCodecs.resolve(given.spec);
  const source = normalMemory(CHUNK_BYTES, "F32");
  const room = defaultCodecs.get(codec.name).payloadBytes(codec, "F32", elements);
  const target = new Uint8Array(room);
  const { hash, bytes } = await backend.encode({ codec, dtype: "F32", elements, source, target });
  const payload = (): Payload => {
    const memory = touchedMemory(bytes);
    memory.set(target.subarray(0, bytes));
    return { bytes: memory, hash };
  };
  return Array.from({ length: chunks }, () => Array.from({ length: CLIENTS }, payload));
}

/** GB/s of the clients' models, on this thread. */
async function speedsOf(
  given: CodecCase,
  backend: CodecBackend,
  { chunks, runs }: { chunks: number; runs: number },
): Promise<Record<Column, number>> {
  const elements = CHUNK_BYTES / 4;
  const codec = defaultCodecs.resolve(given.spec);
  const payloads = await payloadsOf(given, chunks, backend);
  const { buffer, byteOffset } = touchedMemory(2 * CHUNK_BYTES);
  const sums = {
    f32: new Float32Array(buffer, byteOffset, elements),
    f64: new Float64Array(buffer, byteOffset, elements),
  };
  const speeds: Record<Column, number[]> = Object.fromEntries(COLUMNS.map((each) => [each, []])) as never;
  for (let run = 0; run < runs; run++) {
    // In alternating order: what one leaves behind, the other meets, and the other way round.
    for (const column of run % 2 ? COLUMNS.toReversed() : COLUMNS) {
      const [kind, verified] = column.split(" ") as ["f32" | "f64" | "finite", string | undefined];
      const began = performance.now();
      for (const chunk of payloads) {
        if (kind !== "finite") sums[kind].fill(0);
        for (const { bytes, hash } of chunk) {
          const job = {
            codec,
            dtype: "F32",
            elements,
            payload: bytes,
            hash: verified ? hash : undefined,
          } as const;
          const { finite } = await (kind === "finite"
            ? backend.finite({ ...job, output: "F32" })
            : backend.accumulate({ ...job, weight: 1 / CLIENTS, accumulator: sums[kind] }));
          if (!finite) throw new Error(`${given.label}: noise that is not finite`);
        }
      }
      speeds[column].push((payloads.length * CLIENTS * CHUNK_BYTES) / (performance.now() - began) / 1e6);
    }
  }
  return Object.fromEntries(COLUMNS.map((each) => [each, median(speeds[each])])) as never;
}

async function main(): Promise<void> {
  const { quick, json } = program.parse().opts<{ quick?: true; json?: true }>();
  const isas = instructionSets();
  if (isas.length === 0) {
    console.log("SKIPPED: needs a C++ compiler when building");
    return;
  }
  const cases = CODEC_CASES.filter(({ dtype }) => dtype === "F32");
  const rows: { label: string; by: string; speeds: Record<Column, number> }[] = [];
  for (const given of cases) {
    for (const isa of isas) {
      const backend = loadNativeBackend({ isa, synchronous: true })!;
      rows.push({
        label: given.label,
        by: isa,
        speeds: await speedsOf(given, backend, quick ? QUICK : FULL),
      });
    }
  }
  if (json) console.log(JSON.stringify({ rows }));
  else console.log(`${cpus()[0]?.model}, Node ${process.versions.node}\n\n${tableOf(rows)}\n\n${FOOTNOTE}`);
  if (quick) return;
  const bars = (["f32", "f64"] as const).map((sums) => {
    const found = rows.find(({ label }) => label === NORMFLOAT4)!.speeds[`${sums} verified`];
    const pass = found >= BARS[sums];
    const line = `${NORMFLOAT4}, verified and added to sums of ${sums}: ${found.toFixed(2)} GB/s, at least ${BARS[sums]}`;
    return { pass, line: `${pass ? "PASS" : "FAIL"}  ${line}` };
  });
  if (!json) console.log(["", ...bars.map(({ line }) => line)].join("\n"));
  if (bars.some(({ pass }) => !pass)) process.exitCode = 1;
}

function tableOf(rows: readonly { label: string; by: string; speeds: Record<Column, number> }[]): string {
  const lines = [
    ["codec", "by", ...COLUMNS],
    ...rows.map(({ label, by, speeds }) => [label, by, ...COLUMNS.map((each) => speeds[each].toFixed(1))]),
  ];
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  return lines
    .map((line) =>
      line.map((cell, i) => (i < 2 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join("  "),
    )
    .join("\n");
}

const FOOTNOTE =
  "GB/s of one client's float32, on one thread: chunks of 4 MiB of eight clients, added to the same sums one after the\n" +
  "other, which are zeroed first; medians. verified: with the payload's xxh64. finite: looked through before anything is\n" +
  "added; of codecs of blocks that is their scales alone.";

await main();
