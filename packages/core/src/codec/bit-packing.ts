/** Bytes of `count` codes of `bits` bits each, the last one filled up with zero bits. */
export function packedBytes(count: number, bits: number): number {
  // By groups of eight, which fill whole bytes: no product is ever rounded.
  return Math.floor(count / 8) * bits + Math.ceil(((count % 8) * bits) / 8);
}

/**
 * Writes codes of `bits` bits (1 to 8) one behind the other: code i takes the bits from i × `bits` on of a little-endian
 * string of bits.
 * @param codes one code a byte.
 * @example
 * const packed = new Uint8Array(packedBytes(3, 4));
 * packBits(Uint8Array.of(1, 2, 3), 3, 4, packed, 0);
 * const codes = new Uint8Array(3);
 * unpackBits(packed, 0, 4, codes, 3);
 * console.log(packed.length, codes.join(" ")); // 2 1 2 3
 */
export function packBits(
  codes: Uint8Array,
  count: number,
  bits: number,
  target: Uint8Array,
  at: number,
): void {
  if (bits === 8) {
    target.set(codes.subarray(0, count), at);
    return;
  }
  const whole = count - (count % 8);
  let next = at;
  // Eight codes fill whole bytes. Four of them fit into a word, whatever their width.
  for (let i = 0; i < whole; i += 8) {
    const low = four(codes, i, bits);
    const high = four(codes, i + 4, bits);
    const first = low | (high << (4 * bits));
    const second = high >>> (32 - 4 * bits);
    for (let byte = 0; byte < bits; byte++) {
      target[next++] = byte < 4 ? first >>> (8 * byte) : second >>> (8 * byte - 32);
    }
  }
  let word = 0;
  let held = 0;
  for (let i = whole; i < count; i++) {
    word |= codes[i]! << held;
    held += bits;
    // One byte at most: fewer than 8 bits were left, and a code has fewer.
    if (held < 8) continue;
    target[next++] = word;
    word >>>= 8;
    held -= 8;
  }
  if (held > 0) target[next] = word;
}

function four(codes: Uint8Array, at: number, bits: number): number {
  const low = codes[at]! | (codes[at + 1]! << bits);
  const high = codes[at + 2]! | (codes[at + 3]! << bits);
  return low | (high << (2 * bits));
}

/**
 * Reads codes that begin at the byte `at`, one into each byte of `codes`.
 * @param count at most 2²⁸.
 */
export function unpackBits(
  packed: Uint8Array,
  at: number,
  bits: number,
  codes: Uint8Array,
  count: number,
): void {
  if (bits === 8) {
    codes.set(packed.subarray(at, at + count));
    return;
  }
  const mask = (1 << bits) - 1;
  let i = 0;
  // Four codes lie within four bytes, and begin with a byte or in the middle of one.
  for (let bit = 0; i + 4 <= count; i += 4, bit += 4 * bits) {
    const byte = at + (bit >>> 3);
    if (byte + 4 > packed.length) break;
    const low = packed[byte]! | (packed[byte + 1]! << 8);
    const high = packed[byte + 2]! | (packed[byte + 3]! << 8);
    const word = (low | (high << 16)) >>> (bit & 7);
    codes[i] = word & mask;
    codes[i + 1] = (word >>> bits) & mask;
    codes[i + 2] = (word >>> (2 * bits)) & mask;
    codes[i + 3] = (word >>> (3 * bits)) & mask;
  }
  for (; i < count; i++) {
    const bit = i * bits;
    const byte = at + (bit >>> 3);
    const next = byte + 1 < packed.length ? packed[byte + 1]! : 0;
    codes[i] = ((packed[byte]! | (next << 8)) >>> (bit & 7)) & mask;
  }
}
