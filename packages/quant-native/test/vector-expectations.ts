import { byteLength, type CodecBackend, xxh64 } from "@tensorwire/core";
import { firstDifference, firstDifferentElement, shifted } from "@tensorwire/core/testing";
import { expect } from "vitest";
import type { DecodeVector, quantizeVectors } from "../../core/test/vectors.js";

/** The vector's payload decodes to what bitsandbytes decodes it to, in every dtype that it has. */
export async function expectDecoded(
  backend: CodecBackend,
  vector: DecodeVector,
  nonFinite = false,
): Promise<void> {
  const { codec, dtype, elements, decoded } = vector;
  const payload = shifted(vector.payload, 1);
  const hash = xxh64(payload);
  expect(decoded.length).toBeGreaterThan(0);
  for (const { output, bytes } of decoded) {
    const target = new Uint8Array(byteLength(output, elements));
    await backend.decode({ codec, dtype, elements, payload, hash, output, target });
    const different = nonFinite
      ? firstDifferentElement(output, target, bytes)
      : firstDifference(target, bytes);
    expect(different, `decoded to ${output}`).toBe(-1);
  }
}

/** The vector's elements encode to bitsandbytes' payload, and that decodes as its own does. */
export async function expectEncoded(
  backend: CodecBackend,
  vector: ReturnType<typeof quantizeVectors>[number],
): Promise<void> {
  const { codec, dtype, elements, source, payload, nonFinite } = vector;
  const target = new Uint8Array(payload.length);
  const encoded = await backend.encode({ codec, dtype, elements, source, target });
  expect(firstDifference(target, payload)).toBe(-1);
  expect(encoded.hash).toBe(xxh64(payload));
  expect(encoded.nonFinite > 0).toBe(nonFinite);
  await expectDecoded(backend, vector, nonFinite);
}
