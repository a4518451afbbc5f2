import { type Answer, type ChannelPeer, Glob } from "@tensorwire/core";

/** Whom a credential stands for, and what they may do. */
export interface Principal {
  /** For logs and limits: what one principal does counts together, whatever it connects from. */
  readonly name: string;
  /** The models that it may send here: all, none, or those whose name matches one of the patterns. Default none. */
  readonly publish?: boolean | readonly string[] | undefined;
  /** The models that it may have: all, none, or those whose name matches one of the patterns. Default none. */
  readonly fetch?: boolean | readonly string[] | undefined;
  /**
   * The models of others that it may free where an agent is their home: all, none, or those whose name matches one of the patterns.
   * What it has sent there itself it may free with `publish`. Default none.
   */
  readonly free?: boolean | readonly string[] | undefined;
  /** Whether it may look at the dashboard, on which are the names and peers of all transfers. Default false. */
  readonly watch?: boolean | undefined;
}

/**
 * Says who a peer is by what it shows, before anything else of it is believed; `undefined` refuses it. What it throws
 * refuses too. Whoever has a certificate has it in `peer.subject`.
 */
export type Authorize = (credential: string | undefined, peer: ChannelPeer) => Answer<Principal | undefined>;

export type Right = "publish" | "fetch" | "free";

/** Whether the principal has the right to the model of that name. Nobody was asked who they are: then everybody has. */
export function hasRight(principal: Principal | undefined, right: Right, name: string): boolean {
  if (!principal) return true;
  const granted = principal[right] ?? false;
  return typeof granted === "boolean" ? granted : granted.some((pattern) => new Glob(pattern).matches(name));
}
