import { byteLength, elementCount, type Manifest } from "@tensorwire/core";
import type { ObservedTransfer } from "../diagnostics/events.js";

/** Which way a model goes, as this process sees it. `within`: both ends are here, as when a spool encodes. */
export type Way = "out" | "in" | "within";

/** A transfer as it is at a moment: figures, and strangers' words of bounded length. Nothing of the transfer itself is kept. */
export interface Sight {
  readonly id: number;
  readonly way: Way;
  /** The model's, at a server. */
  readonly name: string | undefined;
  readonly principal: string | undefined;
  readonly peer: string | undefined;
  readonly channel: string | undefined;
  /** The manifest's codecs, the one with the most bytes first. */
  readonly codecs: readonly string[];
  /** Milliseconds since 1970, as all times here. */
  readonly startedAt: number;
  /** Source bytes of the model; 0 until it is known. */
  readonly totalBytes: number;
  readonly sourceBytes: number;
  readonly resumedBytes: number;
  readonly wireBytes: number;
}

/** Characters of a stranger's word that are kept. */
const MAX_WORD = 300;

/** A model has few codecs; one that has more is told of by the first. */
const MAX_CODECS = 4;

const codecs = new WeakMap<Manifest, readonly string[]>();

/** Now, on the clock on which transfers begin: it does not jump. */
export const clock = (): number => performance.timeOrigin + performance.now();

/** Undefined for the sending half of what stays in this process: the receiving half says the same. */
export function sightOf(transfer: ObservedTransfer): Sight | undefined {
  const { id, role, channel, peer, served, manifest, position, startedAt } = transfer;
  const within = channel === "memory";
  if (within && role === "send") return undefined;
  return {
    id,
    way: within ? "within" : role === "send" ? "out" : "in",
    name: cut(served?.name),
    principal: cut(served?.principal),
    peer: cut(peer),
    channel,
    codecs: manifest ? codecsOf(manifest) : [],
    startedAt: performance.timeOrigin + startedAt,
    totalBytes: position?.totalBytes ?? 0,
    sourceBytes: position?.sourceBytes ?? 0,
    resumedBytes: position?.resumedBytes ?? 0,
    wireBytes: position?.wireBytes ?? 0,
  };
}

export const cut = (word: string | undefined): string | undefined =>
  word === undefined || word.length <= MAX_WORD ? word : `${word.slice(0, MAX_WORD)}…`;

/** A manifest does not change, and may have many tensors. */
function codecsOf(manifest: Manifest): readonly string[] {
  let names = codecs.get(manifest);
  if (names) return names;
  const bytes = new Map<string, number>();
  for (const { codec, dtype, shape } of manifest.tensors) {
    bytes.set(codec.name, (bytes.get(codec.name) ?? 0) + byteLength(dtype, elementCount(shape)));
  }
  names = [...bytes]
    .sort(([, a], [, b]) => b - a)
    .slice(0, MAX_CODECS)
    .map(([name]) => name);
  codecs.set(manifest, names);
  return names;
}
