import { isIP, type Socket } from "node:net";
import { TLSSocket } from "node:tls";
import type { ChannelPeer } from "@tensorwire/core";
import { hostUrl, isLoopback, withoutBrackets } from "./address.js";

/** Who may connect to a Unix socket is a matter of its file: such peers have no address. */
export const UNIX_PEER: ChannelPeer = { address: "unix", private: true };

/** Who is at the other end of a socket that is connected over a network; of another one nothing is known. */
export function socketPeer(socket: Socket): ChannelPeer {
  const { remoteAddress, remotePort = 0 } = socket;
  const encrypted = socket instanceof TLSSocket;
  if (remoteAddress === undefined) return { address: "unknown", private: false };
  const host = unmapped(remoteAddress);
  const address = hostUrl("", { host, port: remotePort }).slice("://".length);
  return {
    address,
    subject: encrypted ? subjectOf(socket) : undefined,
    private: encrypted || isLoopback(host),
  };
}

/**
 * What counts as one peer where nobody says who it is: a host, whichever of its ports it comes from. Of IPv6 the network of
 * 64 bits, in which one host has as many addresses as it likes.
 */
export function hostOf({ address }: ChannelPeer): string {
  const host = withoutBrackets(address.replace(/:\d+$/, ""));
  return isIP(host) === 6 ? network(host) : host;
}

function network(address: string): string {
  const [before = "", after] = address.replace(/%.*$/, "").split("::");
  const groups = before === "" ? [] : before.split(":");
  if (after !== undefined) {
    const behind = after === "" ? 0 : after.split(":").length;
    while (groups.length + behind < 8) groups.push("0");
  }
  return `${groups.slice(0, 4).join(":")}::/64`;
}

function subjectOf(socket: TLSSocket): string | undefined {
  if (!socket.authorized) return undefined;
  return socket.getPeerX509Certificate()?.subject.replaceAll("\n", ",");
}

/** IPv4 through a socket that takes both. */
const unmapped = (address: string): string => address.replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i, "");
