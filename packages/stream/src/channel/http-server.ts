import { createServer } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { type HostAddress, hostUrl } from "./address.js";
import { HttpChannels } from "./http-channels.js";
import { boundTo, type ChannelServer, type Visitors } from "./server.js";
import { boundSilence } from "./silent-sockets.js";
import { serverTls, type TlsOptions } from "./tls-options.js";

/**
 * Accepts HTTP channels, with TLS where there are options for it. Since a channel makes connections anew, the place is
 * left to others only when the last channel is over.
 * @throws TensorwireError `INVALID_ARGUMENT`, `CHANNEL_OPEN`.
 */
export async function serveHttp(
  address: HostAddress,
  tls: TlsOptions | undefined,
  visitors: Visitors,
): Promise<ChannelServer> {
  const channels = new HttpChannels(visitors);
  const server = tls ? createSecureServer(serverTls(tls)) : createServer();
  boundSilence(server);
  server.on("request", (request, response) => {
    if (channels.handle(request, response)) return;
    response
      .writeHead(404, { connection: "close" })
      .end("This is an endpoint of Tensorwire's HTTP channel.\n");
  });
  const url = hostUrl(tls ? "https" : "http", await boundTo(server, address));
  const close = async (): Promise<void> => {
    const over = channels.close().then(() => {
      server.close();
      server.closeIdleConnections();
    });
    if (channels.size === 0) await over;
  };
  return { url, close };
}
