import { type DType, quote, sameInfo, type TensorInfo, TensorwireError } from "@tensorwire/core";
import type { ComputeOptions, Input } from "./input.js";
import { digestOf } from "./model-digest.js";

/** The metadata key by which a delta names its base: the base's digest, as of `modelDigest`. */
export const BASE_KEY = "tensorwire.base";

/** Options of what reads a delta's base. */
export interface BaseOptions extends ComputeOptions {
  /** The base's digest, as of `modelDigest`, where it is known: else the base is read once more for it. */
  readonly baseDigest?: string | undefined;
}

const DIGEST = /^sha256:[0-9a-f]{64}$/;

/** @throws TensorwireError `INVALID_ARGUMENT` for what is no digest. */
export function checkBaseDigest(digest: string | undefined): void {
  if (digest === undefined || DIGEST.test(digest)) return;
  const message = `baseDigest is sha256: and 64 hexadecimal digits in lower case, not ${quote(String(digest))}`;
  throw new TensorwireError("INVALID_ARGUMENT", message);
}

/** The digest of an open base. @throws TensorwireError `INVALID_ARGUMENT` where reading it for that would be its only reading. */
export async function baseDigest(base: Input, { baseDigest: known }: BaseOptions): Promise<string> {
  if (known !== undefined) return known;
  if (!base.oneShot) return digestOf(base);
  const message = `${quote(base.name)} can be read only once, and its digest takes reading all of it: give baseDigest`;
  throw new TensorwireError("INVALID_ARGUMENT", message);
}

/**
 * Where the tensors of one model are in another, which has the same ones.
 * @param fits Whether dtypes go together that differ.
 * @throws TensorwireError `SOURCE_MISMATCH` that names the tensor.
 */
export function placesIn(
  base: Input,
  model: Input,
  fits: (base: DType, model: DType) => boolean = () => false,
): readonly number[] {
  const byName = new Map(base.info.tensors.map(({ name }, place) => [name, place]));
  const places = model.info.tensors.map((tensor, i) => {
    const place = byName.get(tensor.name);
    if (place === undefined)
      throw mismatch(tensor, `${quote(base.name)} has no such tensor, and ${quote(model.name)} has`);
    const own = base.info.tensors[place]!;
    if (
      !sameInfo({ ...own, dtype: tensor.dtype }, tensor) ||
      !(own.dtype === tensor.dtype || fits(own.dtype, tensor.dtype))
    ) {
      const [one, other] = [own, tensor].map(({ dtype, shape }) => `${dtype} [${shape.join(", ")}]`);
      throw mismatch(tensor, `${one} in ${quote(base.name)}, and ${other} in ${quote(model.name)}`);
    }
    if (place !== i && base.oneShot) {
      throw mismatch(
        tensor,
        `${quote(base.name)} is read only once, and in another order than ${quote(model.name)}`,
      );
    }
    byName.delete(tensor.name);
    return place;
  });
  const [more] = byName.keys();
  if (more === undefined) return places;
  throw mismatch({ name: more }, `${quote(model.name)} has no such tensor, and ${quote(base.name)} has`);
}

function mismatch({ name }: Pick<TensorInfo, "name">, message: string): TensorwireError {
  return new TensorwireError("SOURCE_MISMATCH", message, { tensor: name });
}
