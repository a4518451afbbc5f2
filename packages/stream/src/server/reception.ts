import { asTensorwireError, type ErrorCode, type Manifest, quote, TensorwireError } from "@tensorwire/core";
import type { PublicPeer } from "../door/gate.js";
import type { Principal } from "../door/principal.js";
import { isSink, type Sink } from "../sink/sink.js";

/** Whoever is at the other end of a transfer, without what it has shown. */
export interface ServedPeer extends PublicPeer {
  /** Undefined where nobody was asked. */
  readonly principal: Principal | undefined;
}

/** What a peer wants to send. */
export interface UploadOrigin {
  /** The name that it gives the model: checked, and still a stranger's word. */
  readonly name: string;
  /** Name and version of its program, for people. */
  readonly software: string;
}

/**
 * Says where a model goes: a sink, a path in the upload folder (relative, of the same kind as a name), or `undefined`: it is
 * refused. A TensorwireError of the door (`FORBIDDEN`, `SERVER_BUSY`, …) refuses with that code.
 */
export type OnReceive = (
  origin: UploadOrigin,
  manifest: Manifest,
  peer: ServedPeer,
) => Sink | string | undefined | Promise<Sink | string | undefined>;

const DOOR: readonly ErrorCode[] = ["UNAUTHORIZED", "FORBIDDEN", "NOT_FOUND", "SERVER_BUSY"];

/** Asks the server's owner. @throws TensorwireError `FORBIDDEN`, or what the owner throws of the door. */
export async function askOwner(
  onReceive: OnReceive,
  origin: UploadOrigin,
  manifest: Manifest,
  peer: ServedPeer,
): Promise<Sink | string> {
  let answer: Sink | string | undefined;
  try {
    answer = await onReceive(origin, manifest, peer);
  } catch (cause) {
    const error = asTensorwireError(cause, "INTERNAL");
    if (DOOR.includes(error.code)) throw error;
    // What went wrong there is the owner's to know.
    throw new TensorwireError("FORBIDDEN", `${quote(origin.name)} could not be taken`, { cause });
  }
  if (typeof answer === "string" || isSink(answer)) return answer;
  throw new TensorwireError("FORBIDDEN", `the server does not take ${quote(origin.name)}`);
}
