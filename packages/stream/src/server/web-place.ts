import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { Socket } from "node:net";
import { TensorwireError } from "@tensorwire/core";
import { type HostAddress, hostUrl } from "../channel/address.js";
import { HttpChannels } from "../channel/http-channels.js";
import { type ListenOptions, listeningPlace } from "../channel/listening-place.js";
import { boundTo, type Visitors } from "../channel/server.js";
import { boundSilence } from "../channel/silent-sockets.js";
import { serverTls } from "../channel/tls-options.js";
import { WebSocketUpgrades } from "../channel/websocket-upgrades.js";
import { mount, type Routes, type WebServer } from "./mount.js";

/** Where a server is: at a place of its own, or on a web server that the caller has. */
export interface WebPlaceOptions
  extends Pick<ListenOptions, "url" | "host" | "port" | "tls" | "insecure" | "authorize"> {
  /** Answers here, on paths that begin with `prefix`, and leaves everything else to whoever else answers. */
  readonly server?: WebServer | undefined;
}

/** A request that is answered beside the models: `/metrics`, say. */
export interface Page {
  readonly path: string;
  answer(request: IncomingMessage, response: ServerResponse): void;
}

/** A web server on which channels come in: WebSockets and HTTP channels, and models as plain files. */
export interface WebPlace {
  /** `ws://host:port`. @throws TensorwireError `INVALID_ARGUMENT` where the caller's server does not listen yet. */
  readonly url: string;
  /**
   * Takes no more channels, and leaves the place to others when those that there are have ended: over HTTP a peer still
   * fetches the last words of a transfer that is over here.
   * @param force Aborts when nobody waits for that any more.
   */
  close(force: AbortSignal): Promise<void>;
}

export interface WebPlaceParts {
  /** Where the models are: what begins so is answered here. */
  readonly prefix: string;
  readonly visitors: Visitors;
  /** Answers a plain GET or HEAD of a model. */
  readonly download: RequestListener;
  readonly pages: readonly Page[];
  readonly maxConnections: number;
}

/** @throws TensorwireError `INVALID_ARGUMENT`, `CHANNEL_OPEN`. */
export async function webPlace(options: WebPlaceOptions, parts: WebPlaceParts): Promise<WebPlace> {
  const { visitors, maxConnections } = parts;
  const upgrades = new WebSocketUpgrades(visitors);
  const channels = new HttpChannels(visitors, { maxChannels: maxConnections });
  const routes = routesOf(parts, upgrades, channels);
  const { server, tls } = options;
  if (server) {
    const unmount = mount(server, routes);
    const close = async (force: AbortSignal): Promise<void> => {
      upgrades.close();
      await Promise.race([channels.close(), aborted(force)]);
      unmount();
    };
    return {
      close,
      get url() {
        return urlOf(server);
      },
    };
  }
  const { scheme, address } = ownPlace(options);
  const own = scheme === "wss" ? createSecureServer(serverTls(tls)) : createServer();
  boundSilence(own);
  own.on("request", (request, response) => {
    if (routes.owns(request)) routes.request(request, response);
    else notFound(request, response);
  });
  own.on("upgrade", (request, socket, head) => routes.upgrade(request, socket, head));
  const url = hostUrl(scheme, await boundTo(own, address));
  const close = async (force: AbortSignal): Promise<void> => {
    upgrades.close();
    await Promise.race([channels.close(), aborted(force)]);
    own.close();
    if (force.aborted) own.closeAllConnections();
    else own.closeIdleConnections();
  };
  return { url, close };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

function ownPlace({ url, host, port, tls, insecure, authorize }: WebPlaceOptions): {
  readonly scheme: "ws" | "wss";
  readonly address: HostAddress;
} {
  // Both are spoken on one port.
  const asked = url === undefined ? { host, port } : { url: String(url).replace(/^http(s?):/i, "ws$1:") };
  const place = listeningPlace({ ...asked, tls, insecure, authorize });
  if (place.scheme === "ws" || place.scheme === "wss")
    return { scheme: place.scheme, address: place.address };
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `a model server listens on http:, https:, ws: and wss: URLs, not on ${place.scheme}:`,
  );
}

function routesOf(
  { prefix, pages, download }: WebPlaceParts,
  upgrades: WebSocketUpgrades,
  channels: HttpChannels,
): Routes {
  const pageOf = (request: IncomingMessage): Page | undefined =>
    pages.find(({ path }) => path === pathOf(request));
  return {
    owns: (request) => pathOf(request).startsWith(prefix) || pageOf(request) !== undefined,
    request: (request, response) => {
      const page = pageOf(request);
      if (page) page.answer(request, response);
      else if (channels.handle(request, response)) return;
      else if (request.method === "GET" || request.method === "HEAD") download(request, response);
      else notFound(request, response);
    },
    upgrade: (request, socket, head) => {
      if (pathOf(request).startsWith(prefix)) void upgrades.handle(request, socket, head);
      else (socket as Socket).end("HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n").destroySoon();
    },
  };
}

function notFound(request: IncomingMessage, response: ServerResponse): void {
  // Nothing of the body is read: a stranger's may be endless.
  request.on("error", () => {});
  const headers = { "content-type": "text/plain; charset=utf-8", connection: "close" };
  response.writeHead(404, headers).end("There is nothing here.\n");
}

const pathOf = ({ url = "" }: IncomingMessage): string => /^[^?#]*/.exec(url)![0];

function urlOf(server: WebServer): string {
  const address = server.address();
  if (typeof address !== "object" || address === null) {
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      "the server does not listen on a port, and so has no URL yet",
    );
  }
  return hostUrl("setSecureContext" in server ? "wss" : "ws", { host: address.address, port: address.port });
}
