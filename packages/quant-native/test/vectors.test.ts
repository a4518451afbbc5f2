import { it } from "vitest";
import { decodeVectors, quantizeVectors } from "../../core/test/vectors.js";
import { describeEachIsa } from "./instruction-sets.js";
import { expectDecoded, expectEncoded } from "./vector-expectations.js";

describeEachIsa("bitsandbytes' vectors", (makeBackend) => {
  const backend = makeBackend();

  it.each(quantizeVectors())("$id", (vector) => expectEncoded(backend, vector));

  it.each(decodeVectors())("$id", (vector) => expectDecoded(backend, vector));
});
