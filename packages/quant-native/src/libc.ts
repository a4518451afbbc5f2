import { closeSync, openSync, readSync } from "node:fs";

const ELF_HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const MAGIC = 0x464c457f;
const PT_INTERP = 3;
/** Longer than the path of any loader. */
const MOST_PATH_BYTES = 4096;

/**
 * The C library of a 64-bit ELF program, by the loader that it names; undefined where it names none that is known. A
 * file of a few fields: `process.report` has the answer too, but collects the state of the whole process for it.
 */
export function libcOf(program: string): "gnu" | "musl" | undefined {
  const file = openSync(program, "r");
  try {
    const header = read(file, 0, ELF_HEADER_BYTES);
    if (header === undefined || header.getUint32(0, true) !== MAGIC) return undefined;
    const [first, count] = [Number(header.getBigUint64(32, true)), header.getUint16(56, true)];
    for (let i = 0; i < count; i++) {
      const entry = read(file, first + i * PROGRAM_HEADER_BYTES, PROGRAM_HEADER_BYTES);
      if (entry?.getUint32(0, true) !== PT_INTERP) continue;
      const [offset, bytes] = [Number(entry.getBigUint64(8, true)), Number(entry.getBigUint64(32, true))];
      const path = read(file, offset, Math.min(bytes, MOST_PATH_BYTES));
      const loader = path === undefined ? "" : new TextDecoder("latin1").decode(path);
      if (loader.includes("/ld-musl-")) return "musl";
      if (loader.includes("/ld-linux-")) return "gnu";
    }
    return undefined;
  } finally {
    closeSync(file);
  }
}

function read(file: number, position: number, bytes: number): DataView | undefined {
  const target = new DataView(new ArrayBuffer(bytes));
  return readSync(file, target, 0, bytes, position) === bytes ? target : undefined;
}
