import { bytesOf } from "@tensorwire/core";
import { beginsMark, escaped, isMarked } from "./socket-message.js";

/** What `binaryType` may be. */
export const FORMS: readonly string[] = ["nodebuffer", "arraybuffer", "fragments", "blob"];

/** A binary message as the other program wants it. */
export function formed(data: Buffer, form: string): unknown {
  const { buffer, byteOffset, byteLength } = data;
  switch (form) {
    case "arraybuffer":
      return byteLength === buffer.byteLength ? buffer : buffer.slice(byteOffset, byteOffset + byteLength);
    case "fragments":
      return [data];
    case "blob":
      return new Blob([data as Uint8Array<ArrayBuffer>]);
    default:
      return data;
  }
}

/** The other program's message, which nobody takes for one of ours, whatever is in it. */
export function unmistakable(data: unknown, whole: boolean): unknown {
  // What is in it is known only later.
  if (isBlob(data)) return escapedBlob(data);
  const bytes = sentAs(data);
  // Of a message in pieces the next one may go on as the mark does.
  return bytes && (isMarked(bytes) || (!whole && beginsMark(bytes))) ? escaped(bytes) : data;
}

/** The bytes that ws makes of what it is given; undefined of what it will not take. */
function sentAs(data: unknown): Uint8Array | undefined {
  if (ArrayBuffer.isView(data)) return bytesOf(data);
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  try {
    return Buffer.from((typeof data === "number" ? String(data) : data || "") as string);
  } catch {
    return undefined;
  }
}

// By its shape, as ws tells it: it may be another's than Node's.
function isBlob(data: unknown): data is Blob {
  const { arrayBuffer, stream, [Symbol.toStringTag]: tag } = Object(data) as Partial<Blob> & Tagged;
  return (
    typeof arrayBuffer === "function" && typeof stream === "function" && (tag === "Blob" || tag === "File")
  );
}

interface Tagged {
  readonly [Symbol.toStringTag]?: string;
}

/** One that goes out escaped, of which nobody but ws sees anything. */
function escapedBlob(blob: Blob): object {
  return {
    size: escaped(new Uint8Array(0)).length + blob.size,
    type: blob.type,
    stream: () => blob.stream(),
    arrayBuffer: async () => escaped(new Uint8Array(await blob.arrayBuffer())),
    [Symbol.toStringTag]: "Blob",
  };
}
