import { quote, TensorwireError } from "@tensorwire/core";
import { FileReader } from "./file-reader.js";
import type { FileVersion } from "./file-version.js";

/** More than any shard index or `model.json` that is one; it bounds the memory that a wrong file can take. */
export const MAX_TEXT_FILE_BYTES = 256 * 1024 * 1024;

export interface TextFile {
  readonly text: string;
  readonly version: FileVersion;
}

/**
 * Reads a file of UTF-8 whole.
 * @param within The folder, without links, in which it must lie.
 * @throws TensorwireError `SOURCE_READ`, `SOURCE_INVALID`.
 */
export async function readTextFile(path: string, within?: string): Promise<TextFile> {
  const reader = await FileReader.open(path, undefined, within);
  try {
    if (reader.size > MAX_TEXT_FILE_BYTES) {
      const message = `${quote(path)} has ${reader.size} bytes, and is read only up to ${MAX_TEXT_FILE_BYTES}`;
      throw new TensorwireError("SOURCE_INVALID", message);
    }
    const bytes = new Uint8Array(reader.size);
    await reader.readInto(0, bytes);
    return { text: decodeText(bytes, path), version: reader.state };
  } finally {
    await reader.close();
  }
}

function decodeText(bytes: Uint8Array, path: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new TensorwireError("SOURCE_INVALID", `${quote(path)} is not UTF-8`, { cause });
  }
}
