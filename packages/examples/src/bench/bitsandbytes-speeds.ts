/** GB/s of F32 source of one function, on one thread and on two. */
export interface PublishedSpeed {
  readonly encode?: readonly [number, number];
  readonly decode: readonly [number, number];
}

/**
 * What bitsandbytes reaches on a CPU, for orientation: another machine, so that only what it is of that machine's memcpy
 * can be compared. Measured with bitsandbytes 0.50.1 on an EPYC (Zen 3, no AVX-512) with 2 cores, 256 MiB of F32,
 * N(0, 0.02²), the best of several runs, ± 20 %. Its `blockwise8` encodes by a table of 65,536 bins that is not exact
 * (blocks of 4096), its `normfloat4` and `float4` in PyTorch code (blocks of 64).
 */
export const BITSANDBYTES = {
  memcpy: [16.2, 15.2],
  codecs: {
    blockwise8: { encode: [2.4, 3.07], decode: [12.6, 19.4] },
    normfloat4: { encode: [0.096, 0.16], decode: [7.8, 14.1] },
    float4: { encode: [0.065, 0.147], decode: [7.9, 9.2] },
  } as Readonly<Record<string, PublishedSpeed>>,
} as const;
