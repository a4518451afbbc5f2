import {
  formatDigest,
  formatSha256,
  type Integrity,
  type Manifest,
  quote,
  TensorwireError,
  type Totals,
} from "@tensorwire/core";

const FORM = /^(?:[0-9a-f]{16}|sha256:[0-9a-f]{64})$/;

/** What a receiver demands of a transfer's integrity. */
export interface IntegrityDemands {
  /** `sha256`: nothing less is taken. */
  readonly integrity?: Integrity | undefined;
  /** The digest that it knows: 16 hexadecimal digits, or `sha256:` and 64. */
  readonly expectedDigest?: string | undefined;
}

/** @throws TensorwireError `INVALID_ARGUMENT` for what is no digest. */
export function checkExpectedDigest(digest: string | undefined): void {
  if (digest === undefined || FORM.test(digest)) return;
  const message = `${quote(String(digest))} is no digest: 16 hexadecimal digits, or sha256: and 64, in lower case`;
  throw new TensorwireError("INVALID_ARGUMENT", message);
}

/** Before any data: whether the manifest promises the hashes that are demanded. @throws TensorwireError `INTEGRITY_REQUIRED`. */
export function checkIntegrity(
  { integrity = "xxh64" }: Pick<Manifest, "integrity">,
  demands: IntegrityDemands,
): void {
  const known = demands.expectedDigest?.startsWith("sha256:") ?? false;
  if (integrity === "sha256" || !(known || demands.integrity === "sha256")) return;
  const message = `this side demands SHA-256, and the model is sent with ${integrity}: send it with integrity "sha256"`;
  throw new TensorwireError("INTEGRITY_REQUIRED", message);
}

/** After all data, and before the sink makes it visible. @throws TensorwireError `DIGEST_MISMATCH`. */
export function checkDigest({ digest, sha256 }: Totals, { expectedDigest }: IntegrityDemands): void {
  if (expectedDigest === undefined) return;
  const known = expectedDigest.startsWith("sha256:");
  const found = known ? `sha256:${sha256 ? formatSha256(sha256) : "none"}` : formatDigest(digest);
  if (found === expectedDigest) return;
  const message = `the model's digest is ${found} where ${expectedDigest} is expected: it is another model`;
  // The same again has the same digest.
  throw new TensorwireError("DIGEST_MISMATCH", message, { retryable: false });
}
