import { Socket } from "node:net";
import { PassThrough } from "node:stream";
import { describe, expect, test } from "vitest";
import { hostOf, socketPeer } from "../src/channel/peer.js";
import { duplexChannel } from "../src/index.js";

describe("who a peer is", () => {
  test("counts by host, and of IPv6 by network", () => {
    const host = (address: string) => hostOf({ address, private: false });
    expect(host("192.0.2.7:1234")).toBe("192.0.2.7");
    expect(host("unix")).toBe("unix");
    expect(host("[2001:db8:1:2:3:4:5:6]:80")).toBe(host("[2001:db8:1:2::9]:443"));
    expect(host("[2001:db8:1:2::1]:80")).not.toBe(host("[2001:db8:1:3::1]:80"));
    expect(host("[::1]:80")).toBe("0:0:0:0::/64");
  });

  test("of a socket that is not connected is not known, and no place for a token", () => {
    const streams = new PassThrough();
    expect(duplexChannel(streams).peer).toBe(undefined);
    expect(socketPeer(new Socket())).toEqual({ address: "unknown", private: false });
  });
});
