/**
 * The vocabulary of Tensorwire: dtypes and tensors, codecs and backends, policies, manifests and chunk plans, frames, limits and
 * errors. Everything is pure over `Uint8Array`, and uses nothing of Node: it runs in browsers and workers too.
 *
 * Most programs need none of it by name: `@tensorwire/stream` gives on what its own calls speak of. Who implements the
 * wire format (`docs/wire-format.md`), a codec, a backend or a channel starts here.
 *
 * @module @tensorwire/core
 */
export { RankedMeans } from "./aggregation/ranked-means.js";
export { storeSums } from "./aggregation/rounded-sums.js";
export { SquareSum } from "./aggregation/square-sum.js";
export * from "./aggregation/whole-numbers.js";
export * from "./backend/backend.js";
export * from "./backend/device-bytes.js";
export { PortableBackend } from "./backend/portable.js";
export { adaquant } from "./codec/adaquant.js";
export { bfloat16 } from "./codec/bfloat16.js";
export { BlockCodec, type BlockFormat } from "./codec/block-codec.js";
export { blockwise8 } from "./codec/blockwise8.js";
export * from "./codec/bit-packing.js";
export * from "./codec/codebook.js";
export * from "./codec/codec.js";
export * from "./codec/float-bits.js";
export { float4 } from "./codec/float4.js";
export { float16 } from "./codec/float16.js";
export { LevelSearch } from "./codec/level-search.js";
export * from "./codec/linear.js";
export { LinearCodec } from "./codec/linear-codec.js";
export { lossless } from "./codec/lossless.js";
export * from "./codec/nested-scales.js";
export { none } from "./codec/none.js";
export { normfloat4 } from "./codec/normfloat4.js";
export * from "./codec/philox.js";
export * from "./codec/registry.js";
export { isSeed } from "./codec/seed.js";
export * from "./codec/uncarried-value.js";
export * from "./dtype.js";
export * from "./errors.js";
export { codecPlanDigest } from "./fidelity/codec-plan.js";
export { addElements, type FloatElements, subtractElements } from "./fidelity/difference.js";
export { differingElements, type ElementRun } from "./fidelity/differing-elements.js";
export { type ErrorFigures, ErrorSums, type FloatRun } from "./fidelity/error-sums.js";
export { addResiduals, takeRemainders } from "./fidelity/residual.js";
export { Glob } from "./glob.js";
export * from "./hash.js";
export * from "./policy.js";
export * from "./tensor.js";
export * from "./buffer-pool.js";
export * from "./channel.js";
export * from "./chunk-plan.js";
export * from "./digest.js";
export * from "./packing/envelope.js";
export * from "./packing/frame-check.js";
export * from "./packing/packer.js";
export * from "./frame/chunk-index.js";
export * from "./frame/data.js";
export * from "./frame/footer.js";
export * from "./frame/header.js";
export * from "./frame/held.js";
export * from "./frame/messages.js";
export * from "./frame/parser.js";
export * from "./limits.js";
export * from "./linear-codes.js";
export * from "./manifest.js";
export * from "./file-name.js";
export * from "./model-digest.js";
export * from "./model-name.js";
export * from "./name-patterns.js";
export * from "./safetensors/header.js";
export * from "./safetensors/serialize.js";
export * from "./safetensors/shards.js";
export * from "./tfjs.js";
