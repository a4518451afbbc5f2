/**
 * The suites that any codec, backend and channel must pass, and the values that they try. They need `vitest` and `fast-check`.
 *
 * @module @tensorwire/core/testing
 */
export * from "./backend-suite.js";
export * from "./channel-suite.js";
export * from "./codec-probe.js";
export * from "./codec-properties.js";
export * from "./codec-suite.js";
export * from "./equality.js";
export * from "./samples.js";
