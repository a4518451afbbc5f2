/** A way that NVFlare moves a model in. */
export type NvflareWay = "regular" | "container" | "file";

/**
 * What NVFlare publishes of its own streaming: Llama-3.2-1B by each way, on a machine of its own, peak memory in the MB of its
 * table.
 */
export const PUBLISHED: Readonly<
  Record<NvflareWay, { readonly megabytes: number; readonly seconds: number }>
> = {
  regular: { megabytes: 42_427, seconds: 47 },
  container: { megabytes: 23_265, seconds: 50 },
  file: { megabytes: 19_176, seconds: 170 },
};
