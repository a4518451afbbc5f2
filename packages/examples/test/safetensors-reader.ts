import { type FileHandle, open } from "node:fs/promises";
import {
  parseSafetensorsHeader,
  SAFETENSORS_PREFIX_BYTES,
  type SafetensorsEntry,
  safetensorsHeaderLength,
} from "@tensorwire/core";

/** Reads parts of a safetensors file's tensors, by name: what a transfer has left, seen without a transfer. */
export class SafetensorsReader {
  private constructor(
    private readonly file: FileHandle,
    private readonly begin: number,
    readonly entries: ReadonlyMap<string, SafetensorsEntry>,
  ) {}

  static async open(path: string): Promise<SafetensorsReader> {
    const file = await open(path);
    try {
      const { size } = await file.stat();
      const prefix = await readAt(file, 0, new Uint8Array(SAFETENSORS_PREFIX_BYTES));
      const length = safetensorsHeaderLength(prefix, size);
      const text = await readAt(file, SAFETENSORS_PREFIX_BYTES, new Uint8Array(length));
      const { tensors } = parseSafetensorsHeader(text, size);
      const begin = SAFETENSORS_PREFIX_BYTES + length;
      return new SafetensorsReader(file, begin, new Map(tensors.map((entry) => [entry.info.name, entry])));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** Fills `target` with the tensor's bytes from `offset` on. */
  async read(name: string, offset: number, target: Uint8Array): Promise<Uint8Array> {
    const entry = this.entries.get(name);
    if (!entry) throw new Error(`the file has no tensor ${name}`);
    return readAt(this.file, this.begin + entry.begin + offset, target);
  }

  close(): Promise<void> {
    return this.file.close();
  }
}

async function readAt(file: FileHandle, position: number, target: Uint8Array): Promise<Uint8Array> {
  for (let at = 0; at < target.length; ) {
    const { bytesRead } = await file.read(target, at, target.length - at, position + at);
    if (bytesRead === 0) throw new Error(`the file ends at ${position + at}`);
    at += bytesRead;
  }
  return target;
}
