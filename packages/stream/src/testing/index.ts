/**
 * The suites that any source and sink must pass, and models to try them with. They need `vitest`.
 *
 * @module @tensorwire/stream/testing
 */
export { type PlaceUnderTest, type ResumableSuiteOptions, resumableSuite } from "./resumable-suite.js";
export { type SampleTensor, sampleModel, sampleTensors } from "./sample-model.js";
export { type SinkUnderTest, sinkSuite } from "./sink-suite.js";
export { type SourceUnderTest, sourceSuite } from "./source-suite.js";
