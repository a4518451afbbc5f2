import { type Manifest, quote, TensorwireError } from "@tensorwire/core";
import { BASE_KEY } from "../compute/base.js";
import { exampleCount, NUM_EXAMPLES } from "../aggregate/client-weights.js";

/** What a round's updates have in common beside their tensors: of another form, `aggregate` would take none of them. */
export interface UpdateForm {
  /** Source bytes of a chunk. Default: as the first that arrives. */
  readonly chunkBytes?: number | undefined;
  /** The base that deltas name (`tensorwire.base`). Default: as the first that arrives; one that is no delta names none. */
  readonly base?: string | undefined;
  /**
   * Whether updates say how many examples they are of (`num_examples`): all or none of them (`"alike"`, as the first that
   * arrives), all (`"required"`), or whoever likes (`"any"`, for what does not weigh by it). Default `"alike"`.
   */
  readonly examples?: "alike" | "required" | "any" | undefined;
}

/** None is no number that an aggregate could weigh by; it leaves such a client out, and goes on. */
const NO_EXAMPLES = /^0{1,20}$/;

/** The forms of a round's updates, by client: of those that are here, or are about to be. */
export class UpdateForms {
  readonly #taken = new Map<string, Manifest>();

  constructor(private readonly asked: UpdateForm) {}

  /** @throws TensorwireError `SOURCE_MISMATCH`, `BASE_MISMATCH` with what the client has to do. */
  check(client: string, manifest: Manifest): void {
    const { chunkBytes, base, examples = "alike" } = this.asked;
    // What a client replaces is nobody's measure.
    const [, first] = [...this.#taken].find(([other]) => other !== client) ?? [];
    checkChunks(manifest.chunkBytes, chunkBytes ?? first?.chunkBytes);
    const own = manifest.metadata.get(BASE_KEY);
    if (base !== undefined) checkBase(own, base);
    else if (first) checkBase(own, first.metadata.get(BASE_KEY));
    if (examples === "any") return;
    const stated = manifest.metadata.get(NUM_EXAMPLES);
    checkExamples(stated);
    const others = examples === "required" ? true : first?.metadata.has(NUM_EXAMPLES);
    if (others === undefined || others === (stated !== undefined)) return;
    throw others
      ? mismatch(`its metadata do not say ${NUM_EXAMPLES}, which updates here do: send it with them`)
      : mismatch(`its metadata say ${NUM_EXAMPLES}, which those of the others do not: send it without`);
  }

  /**
   * It is about to be here: others are measured by it from now on.
   * @returns what takes that back.
   * @throws TensorwireError as `check`: another one may have come first.
   */
  take(client: string, manifest: Manifest): () => void {
    this.check(client, manifest);
    const earlier = this.#taken.get(client);
    this.#taken.set(client, manifest);
    return () => {
      if (this.#taken.get(client) !== manifest) return;
      if (earlier) this.#taken.set(client, earlier);
      else this.#taken.delete(client);
    };
  }
}

function checkChunks(own: number, wanted: number | undefined): void {
  if (wanted === undefined || own === wanted) return;
  // Short enough to be told whole at the other end.
  throw mismatch(
    `its chunks are of ${own} bytes: send it with chunkBytes ${wanted}, as this round has it, and windowBytes of ${2 * wanted} or ` +
      "more: a smaller window makes chunks smaller",
  );
}

function checkBase(own: string | undefined, wanted: string | undefined): void {
  if (own === wanted) return;
  const shown = (base: string | undefined): string =>
    base === undefined ? "no base" : `base ${quote(base)}`;
  const message = `this update is of ${shown(own)}, and this round of ${shown(wanted)}: make it of the model that the round began with`;
  throw new TensorwireError("BASE_MISMATCH", message);
}

function checkExamples(stated: string | undefined): void {
  if (stated === undefined || NO_EXAMPLES.test(stated) || exampleCount(stated) !== undefined) return;
  throw mismatch(
    `its ${NUM_EXAMPLES} is ${quote(stated)}, and no number of examples: send it with a decimal number`,
  );
}

const mismatch = (why: string): TensorwireError =>
  new TensorwireError("SOURCE_MISMATCH", `this update cannot be taken here: ${why}`);
