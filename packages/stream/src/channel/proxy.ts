import type { Agent } from "node:http";
import { quote, TensorwireError } from "@tensorwire/core";
import { getProxyForUrl } from "proxy-from-env";
import { isLoopback } from "./address.js";

// What environments name proxies for: a WebSocket is an HTTP connection to them.
const PROXIED_AS: Readonly<Record<string, string>> = { "ws:": "http:", "wss:": "https:" };

/**
 * The proxy that the environment names for a URL (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, but for `NO_PROXY`), with the
 * credential that its own URL may hold. None leads to this machine's loopback: a proxy's is another.
 * @throws TensorwireError `INVALID_ARGUMENT` for a variable that holds no URL of a proxy.
 */
export function proxyFor(url: URL): URL | undefined {
  if (isLoopback(url.hostname)) return undefined;
  const scheme = PROXIED_AS[url.protocol] ?? url.protocol;
  const asked = getProxyForUrl(url.href.replace(url.protocol, scheme));
  if (!asked) return undefined;
  // The text may hold a password: it is not shown.
  const proxy = URL.canParse(asked) ? new URL(asked) : undefined;
  if (proxy && ["http:", "https:"].includes(proxy.protocol) && proxy.hostname) return proxy;
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `the environment's proxy for ${quote(url.host)} (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY) is no http: or https: URL`,
  );
}

/** What a WebSocket's connection is made by, where a proxy leads to it. */
export async function tunnelTo(url: URL): Promise<Agent | undefined> {
  const proxy = proxyFor(url);
  if (!proxy) return undefined;
  const { HttpsProxyAgent } = await import("https-proxy-agent");
  return new HttpsProxyAgent(proxy);
}
