import { TensorwireError } from "@tensorwire/core";
import { isLoopback } from "../channel/address.js";
import { hostOf } from "../channel/peer.js";
import type { Authorize } from "../door/principal.js";
import type { WebPlaceOptions } from "./web-place.js";

/**
 * Who may come in. At a place of its own a server looks at that before it listens; on a web server of the caller's, it sees
 * where peers come from when they do.
 */
export function guardedBy({ server, authorize, insecure = false }: WebPlaceOptions): Authorize | undefined {
  if (!server || insecure) return authorize;
  return (credential, peer) => {
    if (!peer.private)
      throw new TensorwireError("UNAUTHORIZED", "credentials would be readable on their way here");
    if (authorize) return authorize(credential, peer);
    // A proxy's word that it was asked over TLS says nothing of by whom, and may be the stranger's own.
    const here = isLoopback(hostOf(peer)) && !peer.forwarded;
    if (here || peer.subject !== undefined)
      return { name: hostOf(peer), publish: true, fetch: true, watch: true };
    throw new TensorwireError("UNAUTHORIZED", "without `authorize` only peers of this host may come in");
  };
}
