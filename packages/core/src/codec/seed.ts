import { halvesOf, type PhiloxKey } from "./philox.js";

/**
 * Whether it is a seed as specs say it: 16 hexadecimal digits in lower case.
 * @example
 * console.log(isSeed("00112233445566ff"), isSeed("7")); // true false
 */
export function isSeed(given: unknown): given is string {
  return typeof given === "string" && /^[0-9a-f]{16}$/.test(given);
}

/** What a seed draws by. */
export function keyOf(seed: string): PhiloxKey {
  return halvesOf(BigInt(`0x${seed}`));
}
