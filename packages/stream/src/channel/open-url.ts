import { type Channel, quote, TensorwireError } from "@tensorwire/core";
import type { TransferOptions } from "../options.js";
import { checkPrivacy } from "../door/credential.js";
import { hostAddress, isLoopback, shownUrl } from "./address.js";
import { type OpenOptions, type Role, undialled } from "./connect.js";
import { dialWithin } from "./dial-watch.js";
import { checkTls, checkUrl, filePath, schemeOf } from "./endpoint.js";
import { fileReadChannel } from "./file.js";
import { dialHttp } from "./http-dial.js";
import { dialTcp } from "./tcp.js";
import { dialTls } from "./tls.js";
import { dialUnix } from "./unix.js";
import { dialWebSocket } from "./websocket.js";

/** Dials a URL, or opens the file at a path. */
export async function openUrl(
  url: string,
  role: Role,
  { signal: abort, dial }: OpenOptions,
  idleTimeoutMs: number,
): Promise<Channel> {
  const dialled = (start: (signal: AbortSignal) => Promise<Channel>): Promise<Channel> =>
    dialWithin(url, idleTimeoutMs, abort, start);
  const scheme = schemeOf(url);
  checkTls(url, dial);
  switch (scheme) {
    case "ws":
    case "wss":
      checkUrl(url);
      return dialled((signal) => dialWebSocket(url, { ...dial, signal }));
    case "tcp":
      if (dial?.token !== undefined) {
        checkPrivacy({ private: isLoopback(hostAddress(url).host) }, shownUrl(url));
      }
      return dialled((signal) => dialTcp(url, signal));
    case "tls":
      return dialled((signal) => dialTls(url, dial?.tls, signal));
    case "unix":
      return dialled((signal) => dialUnix(url, signal));
    case "http":
    case "https":
      checkUrl(url);
      return dialled((signal) => dialHttp(url, { ...dial, signal }));
  }
  const path = filePath(url);
  if (path !== undefined) return openFile(path, role, dial);
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `${quote(shownUrl(url))}: ws:, wss:, http:, https:, tcp:, tls:, unix: and file: URLs can be opened`,
  );
}

function openFile(path: string, role: Role, dial: TransferOptions["dial"]): Promise<Channel> {
  if (dial?.token !== undefined) throw undialled("a file");
  if (role === "receive" && path.endsWith(".twire")) return fileReadChannel(path);
  const advice =
    role === "send" ? "send to a URL, or write an artifact" : "receive from a URL, or read an artifact";
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `${quote(path)} is no URL and no artifact: ${advice} (*.twire)`,
  );
}
