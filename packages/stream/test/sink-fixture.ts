import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  byteLength,
  type Chunk,
  ChunkPlan,
  type DType,
  elementCount,
  encodeManifest,
  type Manifest,
  type SourceHeader,
  type TensorInfo,
  TensorwireError,
  type Totals,
} from "@tensorwire/core";
import { afterEach } from "vitest";
import type { ModelSink, SinkModel } from "../src/sink/sink.js";

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const clean of cleanups.splice(0).reverse()) clean();
});

export function cleanup(action: () => void): void {
  cleanups.push(action);
}

/** A folder of the test's own. */
export function folder(): string {
  const path = mkdtempSync(join(tmpdir(), "tensorwire-sink-"));
  cleanup(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A small disk of its own; undefined, and said so, where this process may not mount one. */
export function smallDisk(options: string): string | undefined {
  const path = join(folder(), "disk");
  mkdirSync(path);
  const mount = spawnSync("mount", ["-t", "tmpfs", "-o", options, "tmpfs", path]);
  if (mount.status !== 0) {
    console.log("SKIPPED: needs mount");
    return undefined;
  }
  cleanup(() => spawnSync("umount", ["-l", path]));
  return path;
}

/** Everything in a folder: a failed transfer leaves it as it was. */
export function listing(path: string): string[] {
  return readdirSync(path).sort();
}

/** The error that `work` ends in. */
export async function failure(work: Promise<unknown>): Promise<TensorwireError> {
  const error = await work.then(
    (value) => new Error(`it succeeded, with ${String(value)}`),
    (reason: unknown) => reason,
  );
  if (error instanceof TensorwireError) return error;
  throw error;
}

export interface ModelOptions {
  readonly kind?: "model" | "raw";
  readonly metadata?: Record<string, string>;
  readonly header?: SourceHeader;
  /** What the tensors arrive as; the source's dtypes by default. */
  readonly dtypes?: readonly DType[];
  readonly chunkBytes?: number;
}

/** What a sink is told of a model whose tensors travel as they are. */
export function modelOf(infos: readonly TensorInfo[], options: ModelOptions = {}): SinkModel {
  const { kind = "model", metadata = {}, header, chunkBytes = 32 * 1024 } = options;
  const manifest: Manifest = {
    kind,
    chunkBytes,
    header,
    metadata: new Map(Object.entries(metadata)),
    tensors: infos.map((info) => ({ ...info, codec: { name: "none" } })),
  };
  return {
    manifest,
    bytes: encodeManifest(manifest),
    plan: new ChunkPlan(infos, chunkBytes),
    dtypes: options.dtypes ?? infos.map(({ dtype }) => dtype),
  };
}

export const TOTALS: Totals = { digest: 0n, chunks: 0, sourceBytes: 0, clamped: 0 };

/** Deterministic bytes that differ from one tensor, and one place, to another. */
export function noise(length: number, seed: number): Uint8Array {
  let state = (seed + 1) * 2654435761;
  return new Uint8Array(length).map(() => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 24;
  });
}

/** The data of each tensor, as it arrives. */
export function dataOf({ manifest, dtypes }: SinkModel): Uint8Array[] {
  return manifest.tensors.map(({ shape }, i) => noise(byteLength(dtypes[i]!, elementCount(shape)), i));
}

/** Gives a sink all chunks, as a transfer would: several at once, through memory that is overwritten once it is back. */
export async function pour(sink: ModelSink, model: SinkModel, data: readonly Uint8Array[]): Promise<void> {
  let writing: Promise<void>[] = [];
  for (const chunk of model.plan.walk()) {
    const written = put(sink, model, chunk, data);
    if (written) writing.push(written);
    if (writing.length === 4) {
      await Promise.all(writing);
      writing = [];
    }
  }
  await Promise.all(writing);
}

function put(
  sink: ModelSink,
  { dtypes }: SinkModel,
  chunk: Chunk,
  data: readonly Uint8Array[],
): Promise<void> | undefined {
  const dtype = dtypes[chunk.tensor]!;
  const offset = byteLength(dtype, chunk.first);
  // A copy also where it is a Buffer, whose slice is none.
  const lent = new Uint8Array(
    data[chunk.tensor]!.subarray(offset, offset + byteLength(dtype, chunk.elements)),
  );
  const written = sink.write(chunk, lent);
  if (written) return written.finally(() => lent.fill(0xee));
  lent.fill(0xee);
  return undefined;
}
