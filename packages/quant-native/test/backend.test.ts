import { backendSuite } from "@tensorwire/core/testing";
import { built, describeEachIsa } from "./instruction-sets.js";

describeEachIsa("the contract of a backend", (makeBackend, isa) => {
  backendSuite(`native-${isa}`, makeBackend, { packs: built!.packs });
});
