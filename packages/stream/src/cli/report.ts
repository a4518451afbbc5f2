import type { ErrorCode, TensorwireError } from "@tensorwire/core";
import type { RetryEvent } from "../session/retry.js";
import type { TransferSummary } from "../session/summary.js";
import { printable } from "./printable.js";
import { formatRate, formatSeconds, formatSize } from "./sizes.js";

/** What `--json` prints of a transfer: these keys, in this order, are a contract. */
export function summaryJson(summary: TransferSummary): string {
  const { tensors, chunks, sourceBytes, wireBytes, codeBytes, scaleBytes } = summary;
  const { fallbackChunks, declinedChunks, packedChunks, clamped } = summary;
  const { resumedBytes, retries, seconds, peakRssBytes, codecs, digest, sha256, confirmed } = summary;
  return JSON.stringify({
    tensors,
    chunks,
    sourceBytes,
    wireBytes,
    codeBytes,
    scaleBytes,
    fallbackChunks,
    declinedChunks,
    packedChunks,
    clamped,
    resumedBytes,
    retries,
    seconds,
    peakRssBytes,
    codecs,
    digest,
    sha256: sha256 ?? null,
    confirmed,
  });
}

/** What `--json` prints of a failure: every key is there, `null` where it says nothing. */
export function errorJson({ code, message, tensor, chunk, retryable, peerCode }: TensorwireError): string {
  return JSON.stringify({
    error: {
      code,
      message,
      tensor: tensor ?? null,
      chunk: chunk ?? null,
      retryable,
      peerCode: peerCode ?? null,
    },
  });
}

/** How a command calls what it does. */
export interface TransferWords {
  /** What was done, e.g. `sent model.safetensors`. */
  readonly deed: string;
  /** Where the encoded bytes are, e.g. `on the wire`. */
  readonly place: string;
  /** What the end of it means. */
  confirmation(summary: TransferSummary): string;
}

/** A transfer for people. */
export function summaryText({ deed, place, confirmation }: TransferWords, summary: TransferSummary): string {
  const { tensors, sourceBytes, wireBytes, seconds, codeBytes, scaleBytes, digest, peakRssBytes } = summary;
  // What was there before was not moved by this call.
  const movedBytes = sourceBytes - summary.resumedBytes;
  const rate = formatRate(movedBytes, seconds);
  const { packedChunks, sha256 } = summary;
  const parts = scaleBytes ? `: ${formatSize(codeBytes)} of codes, ${formatSize(scaleBytes)} of scales` : "";
  const packed = packedChunks ? `; ${counted(packedChunks, "chunk")} packed` : "";
  const lines = [
    `${deed}: ${counted(tensors, "tensor")}, ${formatSize(sourceBytes)} in ${formatSeconds(seconds)} (${rate})`,
    `${formatSize(wireBytes)} ${place}${ratio(movedBytes, wireBytes)}${parts}${packed}`,
    ...codecLines(summary),
    ...warnings(summary),
    `${confirmation(summary)}; digest ${digest}, peak memory ${formatSize(peakRssBytes)}`,
    ...(sha256 ? [`sha256:${sha256}`] : []),
  ];
  return lines.join("\n");
}

function codecLines({ codecs }: TransferSummary): string[] {
  return Object.entries(codecs).map(
    ([name, { tensors, sourceBytes, wireBytes }]) =>
      `  ${name}: ${counted(tensors, "tensor")}, ${formatSize(sourceBytes)} as ${formatSize(wireBytes)}`,
  );
}

function warnings({
  fallbackChunks,
  declinedChunks,
  clamped,
  resumedBytes,
  retries,
}: TransferSummary): string[] {
  const lines: string[] = [];
  const uncarried = fallbackChunks - declinedChunks;
  if (uncarried) {
    lines.push(`${counted(uncarried, "chunk")} travelled exactly: NaN, infinity or values out of range`);
  }
  if (declinedChunks) {
    lines.push(`${counted(declinedChunks, "chunk")} travelled exactly: the codec would have saved nothing`);
  }
  if (clamped) lines.push(`${counted(clamped, "value")} clamped to the codec's range`);
  if (resumedBytes) lines.push(`${formatSize(resumedBytes)} were there from an earlier attempt`);
  if (retries) lines.push(`interrupted ${retries === 1 ? "once" : `${retries} times`}, and went on`);
  return lines;
}

function ratio(sourceBytes: number, wireBytes: number): string {
  // Frames make an unencoded model larger by a little: no ratio worth a word.
  return wireBytes > 0 && sourceBytes > wireBytes * 1.01
    ? ` (${(sourceBytes / wireBytes).toFixed(2)}x smaller)`
    : "";
}

export function counted(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

/** An interruption that is not the end, for people. */
export function retryText({ error, attempt, attempts, delayMs }: RetryEvent): string {
  const next = delayMs > 0 ? `trying again in ${formatSeconds(delayMs / 1000)}` : "waiting for the next peer";
  return `tensorwire: ${error.code}: ${printable(error.message)}\n  ${next} (${attempt} of ${attempts})`;
}

/** A failure for people: one line, then what to do about it. */
export function errorText(error: TensorwireError): string {
  const code = error.code === "PEER_FAILED" && error.peerCode ? error.peerCode : error.code;
  const advice = ADVICE[code as ErrorCode];
  const line = `tensorwire: ${error.code}: ${printable(error.message)}`;
  return advice ? `${line}\n  ${error.code === "PEER_FAILED" ? "on the peer's side: " : ""}${advice}` : line;
}

const ADVICE: Partial<Record<ErrorCode, string>> = {
  INVALID_ARGUMENT: "see tensorwire --help, or tensorwire <command> --help",
  SOURCE_INVALID: "the file is damaged or of another format; --raw sends any file as it is",
  VALUE_NOT_FINITE: "leave out --non-finite error, and the chunk travels exactly",
  SOURCE_CHANGED: "something writes to the model: send it again when that is finished",
  LIMIT_EXCEEDED: "if the peer is to be trusted, raise the limit, e.g. with --max-model-bytes or --window",
  FRAME_CORRUPT: "the bytes were damaged on their way, or on disk: try again",
  CHUNK_CORRUPT: "the bytes were damaged on their way, or on disk: try again",
  DIGEST_MISMATCH: "with --digest: it is another model than you expect; else try again",
  INTEGRITY_REQUIRED: "the sender needs --integrity sha256",
  CODEC_UNSUPPORTED: "choose another --codec, or the same version of tensorwire on both sides",
  VERSION_UNSUPPORTED: "use the same version of tensorwire on both sides",
  CHANNEL_OPEN: "is the other side listening there? Start it with --listen, then try again",
  CHANNEL_CLOSED: "the other side went away: look there for the reason, then try again",
  INTERNAL: "this is a defect of tensorwire: please report it, with the output under TENSORWIRE_DEBUG=1",
};
