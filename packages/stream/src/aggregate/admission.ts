import { quote, TensorwireError } from "@tensorwire/core";
import type { AggregateRule } from "./aggregate-options.js";
import type { AggregateReport, ExcludedClient } from "./aggregate-report.js";
import type { Part } from "./chunk-rule.js";
import type { ClientModel } from "./client-model.js";
import { type ClientWeights, NUM_EXAMPLES, normalized, shares } from "./client-weights.js";
import type { LookThrough } from "./look-through.js";

/** Who is let into an aggregate, and who is not. */
export interface Admission {
  readonly parts: readonly Part[];
  readonly report: AggregateReport;
  /** Adds to the report's notices, and warns the first time. */
  readonly notice: (message: string) => void;
}

interface Candidate {
  readonly client: ClientModel;
  readonly weight: number;
  readonly norm: number | undefined;
}

/**
 * Decides before the first chunk, so that nobody is left out in the middle.
 * @throws TensorwireError where nobody is left, or where who is left out is an error.
 */
export async function admission(
  clients: readonly ClientModel[],
  { weights, weighting }: ClientWeights,
  rule: AggregateRule,
  lookThrough: LookThrough,
): Promise<Admission> {
  const candidates: Candidate[] = [];
  const excluded: ExcludedClient[] = [];
  for (const [i, client] of clients.entries()) {
    const weight = weights[i];
    if (weight === undefined) {
      excluded.push(unweighted(client, rule));
      continue;
    }
    const found = await lookThrough.client(client);
    if (found.excluded) excluded.push(found.excluded);
    else candidates.push({ client, weight, norm: found.norm });
  }
  if (candidates.length === 0) throw nobody(excluded);
  const parts = partsOf(candidates, rule);
  const taken = parts.map(({ client, weight, factor }, i) => {
    const { norm } = candidates[i]!;
    return { id: client.id, weight, ...(norm !== undefined && { norm, factor }) };
  });
  const notices: string[] = [];
  return {
    parts,
    report: { taken, excluded, weighting, notices },
    notice: (message) => tell(notices, message),
  };
}

function partsOf(candidates: readonly Candidate[], { method, clipNorm }: AggregateRule): Part[] {
  const given = candidates.map(({ weight }) => weight);
  const [weights, each] = [normalized(given), shares(given)];
  return candidates.map(({ client, norm = 0 }, i) => ({
    client,
    weight: method === "sum-mod-2^32" ? 1 : weights[i]!,
    share: each[i]!,
    factor: clipNorm !== undefined && norm > clipNorm ? clipNorm / norm : 1,
  }));
}

function unweighted({ id, info }: ClientModel, { nonFinite }: AggregateRule): ExcludedClient {
  const reason = `metadata ${NUM_EXAMPLES} is ${quote(info.metadata.get(NUM_EXAMPLES)!)}, which is no positive number`;
  if (nonFinite === "exclude") return { id, reason };
  const message = `client ${quote(id)}: ${reason}: give weights, or leave the client out`;
  throw new TensorwireError("SOURCE_MISMATCH", message);
}

function nobody(excluded: readonly ExcludedClient[]): TensorwireError {
  const [{ id, reason, tensor, chunk }] = excluded as [ExcludedClient];
  const others = excluded.length === 1 ? "" : `, and ${excluded.length - 1} more`;
  const message = `no client is left to aggregate: of ${quote(id)} ${reason}${others}`;
  return new TensorwireError("VALUE_NOT_FINITE", message, { tensor, chunk });
}

function tell(notices: string[], message: string): void {
  if (notices.length === 0) {
    process.emitWarning(`${message}; the report has the others, if there are any`, {
      code: "TENSORWIRE_INTEGERS",
    });
  }
  notices.push(message);
}
