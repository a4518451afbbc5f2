import { open } from "node:fs/promises";
import { serializeSafetensorsHeader, type TensorInfo } from "@tensorwire/core";
import { fillNoise } from "./noise.js";

const F32_BYTES = 4;
const COLUMNS = 256;
/** Tensors other than the largest are at most this long, as the layers of a large model are. */
const LAYER_BYTES = 64 * 1024 * 1024;

/** What a model of noise is made of: F32 tensors of `bytes` bytes together, the first of `largestBytes`, none larger. */
export interface NoiseModelSize {
  readonly bytes: number;
  readonly largestBytes: number;
}

/** The tensors of a model of exactly that size, the largest first, as an embedding is. */
export function noiseTensors({ bytes, largestBytes }: NoiseModelSize): TensorInfo[] {
  const row = COLUMNS * F32_BYTES;
  if (bytes % row || largestBytes % row || largestBytes > bytes) {
    throw new Error(
      `a model of ${bytes} bytes with a tensor of ${largestBytes} is not a whole number of 1 KiB rows`,
    );
  }
  const tensors: TensorInfo[] = [matrix("embedding.weight", largestBytes / row)];
  for (let left = bytes - largestBytes; left > 0; ) {
    const next = Math.min(left, LAYER_BYTES, largestBytes);
    tensors.push(matrix(`layers.${tensors.length - 1}.weight`, next / row));
    left -= next;
  }
  return tensors;
}

const matrix = (name: string, rows: number): TensorInfo => ({ name, dtype: "F32", shape: [rows, COLUMNS] });

/** Elements of an F32 tensor. */
export const elementsOf = ({ shape }: TensorInfo): number => shape.reduce((product, n) => product * n, 1);

const PIECE_ELEMENTS = 1024 * 1024;

/** Writes the model as a safetensors file. */
export const writeNoiseModel = (path: string, size: NoiseModelSize): Promise<void> =>
  writeNoise(path, noiseTensors(size));

/** Writes F32 tensors of noise as a safetensors file. */
export async function writeNoise(path: string, tensors: readonly TensorInfo[]): Promise<void> {
  const { bytes } = serializeSafetensorsHeader(tensors);
  const piece = new Float32Array(PIECE_ELEMENTS);
  const file = await open(path, "wx");
  try {
    await file.writeFile(bytes);
    for (const [index, tensor] of tensors.entries()) {
      const elements = elementsOf(tensor);
      for (let first = 0; first < elements; first += PIECE_ELEMENTS) {
        const part = piece.subarray(0, Math.min(PIECE_ELEMENTS, elements - first));
        fillNoise(part, index, first);
        await file.writeFile(Buffer.from(part.buffer, 0, part.byteLength));
      }
    }
  } finally {
    await file.close();
  }
}
