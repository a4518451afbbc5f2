const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** Bytes for people, as the command writes them: at least three digits, in binary units. @param {number} bytes */
export function size(bytes) {
  let value = bytes;
  let unit = 0;
  // Rounded first: 1048575 bytes are 1.00 MiB, not 1024 KiB.
  while (Math.round(value) >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  if (unit === 0) return `${Math.round(value)} B`;
  return `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ${UNITS[unit]}`;
}

/** @param {number} bytes A second. */
export const rate = (bytes) => `${size(Math.round(bytes))}/s`;

/** @param {number} seconds */
export function duration(seconds) {
  const whole = Math.round(seconds);
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (whole < 60) return `${seconds < 10 ? seconds.toFixed(1) : whole} s`;
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (hours > 0) return minutes > 0 ? `${hours} h ${minutes} min` : `${hours} h`;
  return rest > 0 ? `${minutes} min ${rest} s` : `${minutes} min`;
}

/** The time of day. @param {number} at Milliseconds since 1970. */
export const time = (at) =>
  new Date(at).toLocaleTimeString([], {
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hour12: false,
  });

/** How much of a whole, in per cent: 100 only when it is all. @param {number} part @param {number} whole */
export const share = (part, whole) => (whole > 0 ? Math.floor((part / whole) * 100) : 0);

/** @param {number} count @param {string} one @param {string} [many] */
export const counted = (count, one, many = `${one}s`) =>
  `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
