import { mkdir, stat } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import { type Comparison, compareModels, type ErrorFigures } from "@tensorwire/stream";
import { EndProcess } from "../ends/end-process.js";
import type { JobResult } from "../ends/job.js";
import { formatMiB } from "../model/byte-size.js";
import { demoModel, MODEL } from "./model.js";
import { grouped, megabytes, Screen, tail } from "./screen.js";

const CODEC = "normfloat4";
const TARGET = join(resolve("out"), `model-embeddings-en.${CODEC}.safetensors`);
const WORST = 5;
/** Four bits a weight give about 20 dB: far less than that is a fault, not a loss. */
const LEAST_SNR_DB = 15;

const screen = new Screen(process.stdout);

async function demo(): Promise<void> {
  const model = demoModel();
  screen.heading("Tensorwire: a trained model moves from one process to another");
  screen.row("model", `${MODEL} (TensorFlow.js)`);
  screen.row(
    "",
    `${model.tensors} tensors, ${grouped(model.weights)} weights, ${model.dtypes.join(" and ")}`,
  );
  screen.row("codec", `${CODEC}, tensors under 4096 elements and integers exactly`);
  await mkdir(resolve("out"), { recursive: true });

  const [sender, receiver] = await Promise.all([EndProcess.start("sender"), EndProcess.start("receiver")]);
  try {
    const receiving = receiver.run({ way: "file", target: TARGET });
    const url = await receiving.listening;
    screen.row("channel", `process ${sender.pid} to process ${receiver.pid}, ${url}`);
    screen.line();
    const job = { way: "file", source: model.path, url, options: { codec: CODEC } } as const;
    const sending = sender.run(job, (event) => screen.progress(event));
    const [sent, received] = await Promise.all([sending.done, receiving.done]);
    if (sent.summary!.digest !== received.summary!.digest)
      throw new Error("the two ends disagree about what was sent");
    showSizes(sent);
    const comparison = await compareModels(model.path, TARGET);
    showError(comparison);
    showMemory([
      { name: "sender", baseBytes: sender.baseBytes, result: sent },
      { name: "receiver", baseBytes: receiver.baseBytes, result: received },
    ]);
    judge(comparison);
  } finally {
    await Promise.all([sender.close(), receiver.close()]);
  }
  const { size } = await stat(TARGET);
  screen.line();
  screen.good(`Wrote ${relative(process.cwd(), TARGET)} (${megabytes(size)})`);
}

function showSizes({ summary, seconds }: JobResult): void {
  const { sourceBytes, wireBytes, codeBytes, scaleBytes, codecs, backend, chunks } = summary!;
  const exact = codecs.none?.wireBytes ?? 0;
  const ratio = (bytes: number): string => `${(sourceBytes / bytes).toFixed(2)}x smaller`;
  screen.heading("Sizes");
  screen.row("source", `${megabytes(sourceBytes).padStart(9)}  in ${chunks} chunks`);
  screen.row("on the wire", `${megabytes(wireBytes).padStart(9)}  ${ratio(wireBytes)}`);
  screen.row("  codes", `${megabytes(codeBytes - exact).padStart(9)}  half a byte a weight`);
  screen.row("  scales", `${megabytes(scaleBytes).padStart(9)}  an f32 for each 64 weights`);
  screen.row("  exact", `${megabytes(exact).padStart(9)}  small tensors and integers`);
  screen.row(
    "  framing",
    `${megabytes(wireBytes - codeBytes - scaleBytes).padStart(9)}  manifest, headers, checksums`,
  );
  screen.row(
    "time",
    `${(seconds * 1000).toFixed(0).padStart(6)} ms  from connect to receipt, ${backend} codecs`,
  );
}

function showError({ tensors, total }: Comparison): void {
  const line = (name: string, cells: readonly string[]): void =>
    screen.line(`  ${tail(name, 28).padEnd(28)} ${cells.map((cell) => cell.padStart(9)).join("")}`);
  const lossy = tensors.flatMap(({ name, error }) => (error?.differing ? [{ name, error }] : []));
  const worst = lossy.sort((a, b) => a.error.snrDb - b.error.snrDb);
  const integers = tensors.filter(({ error }) => !error);
  screen.heading("Error against the original");
  line("", ["max abs", "mean abs", "rel. L2", "cosine", "SNR"]);
  line(`all ${worst.length} quantized`, cells(total.changed));
  for (const { name, error } of worst.slice(0, WORST)) line(name, cells(error));
  if (worst.length > WORST) screen.line(`  and ${worst.length - WORST} that came nearer`);
  const same = tensors.length - worst.length;
  const kept = integers.every(({ differing }) => differing === 0)
    ? ` among them the ${integers.length} of int32`
    : "";
  screen.line(`  ${same} tensors are exactly the original's,${kept}`);
}

function cells({ maxAbs, meanAbs, relativeL2, cosine, snrDb }: ErrorFigures): string[] {
  return [
    maxAbs.toPrecision(3),
    meanAbs.toPrecision(3),
    relativeL2.toFixed(4),
    cosine.toFixed(5),
    `${snrDb.toFixed(1)} dB`,
  ];
}

function showMemory(ends: readonly { name: string; baseBytes: number; result: JobResult }[]): void {
  screen.heading("Memory of each process");
  for (const { name, baseBytes, result } of ends) {
    const peak = result.summary!.peakRssBytes;
    screen.row(name, `${formatMiB(peak)} at its peak, ${formatMiB(peak - baseBytes)} over Node and imports`);
  }
}

/** What a transfer must not do to a model. */
function judge({ tensors, total }: Comparison): void {
  const broken = tensors.find(({ error, differing }) => !error && differing > 0);
  if (broken) throw new Error(`tensor ${broken.name} of ${broken.a.dtype} is not exactly the original's`);
  const { snrDb } = total.changed;
  if (!(snrDb > LEAST_SNR_DB)) throw new Error(`an SNR of ${snrDb} dB is below ${LEAST_SNR_DB}`);
}

try {
  await demo();
} catch (error) {
  screen.line();
  screen.bad(`The demo failed: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
