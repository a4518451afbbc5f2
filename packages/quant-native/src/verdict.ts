import { type Finiteness, TensorwireError } from "@tensorwire/core";
import { VERDICT } from "./addon.js";

/** Throws what is wrong with a payload that was to be decoded. */
export function checkVerdict(verdict: number, hash: bigint | undefined): void {
  if (verdict === VERDICT.intact) return;
  if (verdict === VERDICT.corrupt) {
    const expected = hash?.toString(16).padStart(16, "0");
    throw new TensorwireError(
      "CHUNK_CORRUPT",
      `the payload's xxh64 is not ${expected}: it changed on its way`,
    );
  }
  throw new TensorwireError(
    "PAYLOAD_INVALID",
    verdict === VERDICT.invalid
      ? "what the payload says of itself does not fit its length"
      : "the packed payload is not one of these lengths, or a part of it cannot be unpacked",
  );
}

const FINITE: Finiteness = Object.freeze({ finite: true });
const NOT_FINITE: Finiteness = Object.freeze({ finite: false });

/** What a payload that was summed, or looked through, is; throws what is wrong with it. */
export function finitenessOf(verdict: number, hash: bigint | undefined): Finiteness {
  if (verdict === VERDICT.notFinite) return NOT_FINITE;
  checkVerdict(verdict, hash);
  return FINITE;
}

/** The hash of an unpacked payload, or throws what is wrong with its envelope. */
export function checkUnpacked(hash: bigint | number): bigint {
  if (typeof hash === "number") checkVerdict(hash, undefined);
  return hash as bigint;
}
