import { quote, TensorwireError } from "@tensorwire/core";
import { Option } from "commander";

const STEP = 1024;
const UNITS = ["", "K", "M", "G", "T"];

/**
 * Bytes, as people write them: `65536`, `4M`, `32MiB`, `1.5 GiB`. K, M, G and T are powers of 1024 with and without
 * `iB`; `MB` is refused, since it means one thing to disks and another to memory.
 * @throws TensorwireError `INVALID_ARGUMENT` naming the option.
 */
export function parseSize(text: string, option: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*(?:([KMGT])(?:iB)?|B)?$/i.exec(text.trim());
  const bytes = match ? Number(match[1]) * STEP ** UNITS.indexOf((match[2] ?? "").toUpperCase()) : Number.NaN;
  if (Number.isSafeInteger(bytes) && bytes > 0) return bytes;
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `${option} takes a size in bytes such as 65536, 4M or 32MiB, not ${quote(text)}`,
  );
}

/** Bytes for people: at least three digits, in binary units. */
export function formatSize(bytes: number): string {
  let value = bytes;
  let unit = 0;
  // Rounded first: 1048575 bytes are 1.00 MiB, not 1024 KiB.
  while (Math.round(value) >= STEP && unit < UNITS.length - 1) {
    value /= STEP;
    unit++;
  }
  if (unit === 0) return `${bytes} B`;
  return `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ${UNITS[unit]}iB`;
}

export function formatRate(bytes: number, seconds: number): string {
  return `${formatSize(seconds > 0 ? Math.round(bytes / seconds) : 0)}/s`;
}

export function formatSeconds(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${rest} s`;
}

/** An option that takes a size. */
export const sizeOption = (flag: string, description: string): Option =>
  new Option(`${flag} <size>`, description).argParser((text) => parseSize(text, flag));
