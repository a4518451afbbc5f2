import { sameSha256, TensorwireError, type Totals } from "@tensorwire/core";
import { checkDigest, type IntegrityDemands } from "./expected-digest.js";
import type { IncomingModel } from "./incoming-model.js";

/**
 * What the sender says at its END, against what is here: the model as a whole, and what came on this connection.
 * @throws TensorwireError `DIGEST_MISMATCH`, `PROTOCOL`.
 */
export function checkTotals(
  totals: Totals,
  { digest, bytes, manifest, tally }: IncomingModel,
  came: Pick<Totals, "chunks" | "sourceBytes">,
  demands: IntegrityDemands,
): void {
  const count = manifest.tensors.length;
  const same = digest.transfer(bytes, count) === totals.digest;
  if (!same || !sameSha256(digest.sha256(bytes, count), totals.sha256)) {
    throw new TensorwireError("DIGEST_MISMATCH", "the digests of the two ends differ: send the model again");
  }
  if (totals.chunks !== came.chunks || totals.sourceBytes !== came.sourceBytes) {
    const message = `END counts ${totals.chunks} chunks of ${totals.sourceBytes} bytes where ${came.chunks} of ${came.sourceBytes} came`;
    throw new TensorwireError("PROTOCOL", message);
  }
  checkDigest(totals, demands);
  tally.clamped = totals.clamped;
}

/**
 * What the receiver says that it has, against what was sent.
 * @throws TensorwireError `DIGEST_MISMATCH`.
 */
export function checkReceipt(sent: Totals, received: Totals): void {
  const same = sent.digest === received.digest && sameSha256(sent.sha256, received.sha256);
  if (same && sent.chunks === received.chunks) return;
  throw new TensorwireError(
    "DIGEST_MISMATCH",
    "the peer's receipt is for other data than was sent: send it again",
  );
}
