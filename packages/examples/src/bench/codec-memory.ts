import { readFileSync } from "node:fs";
import { byteLength, type FloatDType, none } from "@tensorwire/core";
import { addressOffset } from "@tensorwire/quant-native";

const CACHE_LINE = 64;
/** Where glibc puts a large buffer, for want of an addon that could tell. */
const PRESUMED_OFFSET = 16;
const DEVIATION = 0.02;

/** Memory that begins on a cache line, with a page behind every address: the first write to one costs several times more. */
export function touchedMemory(bytes: number): Uint8Array {
  const buffer = new ArrayBuffer(bytes + CACHE_LINE);
  const offset = addressOffset(buffer, CACHE_LINE) ?? PRESUMED_OFFSET;
  return new Uint8Array(buffer, (CACHE_LINE - offset) % CACHE_LINE, bytes).fill(1);
}

const PIECE_ELEMENTS = 2 ** 20;

/** Elements of N(0, 0.02²), as the weights of a layer lie: the same values on every run (Box and Muller). */
export function normalMemory(bytes: number, dtype: FloatDType): Uint8Array {
  const target = touchedMemory(bytes);
  const elements = bytes / byteLength(dtype, 1);
  const piece = new Float32Array(PIECE_ELEMENTS);
  let state = 0x9e3779b9;
  const uniform = (): number => {
    // xorshift32, of which 0 is no state.
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
  for (let first = 0; first < elements; first += PIECE_ELEMENTS) {
    for (let i = 0; i < PIECE_ELEMENTS; i += 2) {
      const radius = DEVIATION * Math.sqrt(-2 * Math.log(uniform()));
      const angle = 2 * Math.PI * uniform();
      piece[i] = radius * Math.cos(angle);
      piece[i + 1] = radius * Math.sin(angle);
    }
    const place = target.subarray(byteLength(dtype, first), byteLength(dtype, first + PIECE_ELEMENTS));
    none.decode({ name: "none" }, "F32", PIECE_ELEMENTS, new Uint8Array(piece.buffer), dtype, place);
  }
  return target;
}

/** What pages this process's memory is of, as far as the system says. */
export function pagesInUse(): string {
  try {
    const setting = readFileSync("/sys/kernel/mm/transparent_hugepage/enabled", "utf8");
    const huge = Number(
      /^AnonHugePages:\s+(\d+) kB/m.exec(readFileSync("/proc/self/smaps_rollup", "utf8"))?.[1],
    );
    const here = huge > 0 ? `4 KiB, but for ${Math.round(huge / 1024)} MiB of huge ones` : "4 KiB";
    return `${here} (transparent huge pages: ${/\[(\w+)\]/.exec(setting)?.[1]})`;
  } catch {
    return "not known here";
  }
}
