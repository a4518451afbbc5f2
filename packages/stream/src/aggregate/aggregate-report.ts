/** A client whose model is in an aggregate. */
export interface TakenClient {
  /** As it was given. */
  readonly id: string;
  /** Its part: the weights of all that are taken add up to one. Of sums, one each. */
  readonly weight: number;
  /** With `clipNorm`: the L2 norm of its update, over all tensors of floats. */
  readonly norm?: number | undefined;
  /** With `clipNorm`: what its values are multiplied by so that the norm is no more than that; 1 where it is not. */
  readonly factor?: number | undefined;
}

/** A client whose model is not in it. */
export interface ExcludedClient {
  /** As it was given. */
  readonly id: string;
  /** What was found in its model. */
  readonly reason: string;
  /** Where the first value is that is not finite. */
  readonly tensor?: string | undefined;
  /** Where artifacts say how tensors are cut. */
  readonly chunk?: number | undefined;
}

/** Who is in an aggregate. */
export interface AggregateReport {
  /** Whose models are in it. */
  readonly taken: readonly TakenClient[];
  /** Whose are not, and why. */
  readonly excluded: readonly ExcludedClient[];
  /** Where weights come from: the caller, the metadata's `num_examples`, or nowhere, so that they are the same. */
  readonly weighting: "given" | "num_examples" | "equal";
  /** Tensors of whole numbers on which clients do not agree, and what was done about it: known as they are read. */
  readonly notices: readonly string[];
}
