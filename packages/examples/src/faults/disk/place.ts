import type { TensorInfo } from "@tensorwire/core";

export const PART_SUFFIX = ".part";

/** A model that is long enough for something to happen on its way: 8 MiB, and a bit. */
export const LARGE: readonly TensorInfo[] = Array.from({ length: 8 }, (_, i) => ({
  name: `layers.${i}.weight`,
  dtype: "F32",
  shape: [1024, 257],
}));
