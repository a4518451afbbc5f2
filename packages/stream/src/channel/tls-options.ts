import { createSecureContext, type SecureContextOptions } from "node:tls";
import { TensorwireError } from "@tensorwire/core";

type Pem = string | Uint8Array | readonly (string | Uint8Array)[];

/** TLS of `wss:` and `tls:`, for either end. Certificates and keys are PEM texts, not paths. */
export interface TlsOptions {
  /** Who vouches for the peer's certificate. Default, for who dials: those that Node trusts. */
  readonly ca?: Pem | undefined;
  /** This end's certificate. Needed to listen; to dial, where the server asks for one. */
  readonly cert?: Pem | undefined;
  /** The key of the certificate. */
  readonly key?: Pem | undefined;
  /** Who dials: the name that the certificate must have. Default: the host of the URL. */
  readonly servername?: string | undefined;
  /** Who listens: ask peers for a certificate. Default: where there is `ca`. */
  readonly requestCert?: boolean | undefined;
  /** Whether a peer without a valid certificate is turned away. Default true. */
  readonly rejectUnauthorized?: boolean | undefined;
}

interface NodeTls extends SecureContextOptions {
  servername?: string;
  requestCert?: boolean;
  rejectUnauthorized?: boolean;
}

/** For who dials. @throws TensorwireError `INVALID_ARGUMENT`. */
export function clientTls(options: TlsOptions = {}): NodeTls {
  const { servername, rejectUnauthorized = true } = options;
  return { ...credentials(options), ...(servername !== undefined && { servername }), rejectUnauthorized };
}

/** For who listens. @throws TensorwireError `INVALID_ARGUMENT`. */
export function serverTls(options: TlsOptions = {}): NodeTls {
  const { ca, cert, key, rejectUnauthorized = true, requestCert = ca !== undefined } = options;
  if (cert === undefined || key === undefined) {
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      "listening with TLS takes a certificate and its key: tls.cert, tls.key",
    );
  }
  return { ...credentials(options), requestCert, rejectUnauthorized };
}

/**
 * Whether only peers with a certificate get in, from an authority that the caller named: with those that Node trusts
 * anybody could have one.
 */
export function isMutual(options: TlsOptions | undefined): boolean {
  if (!options?.ca) return false;
  return options.requestCert !== false && options.rejectUnauthorized !== false;
}

/** Whether a handshake failed by a certificate, which trying again does not mend. */
export function isCertificateFault(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return typeof code === "string" && /CERT|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)_/.test(code);
}

function credentials({ ca, cert, key }: TlsOptions): SecureContextOptions {
  const given = { ca, cert, key } as SecureContextOptions;
  const options = Object.fromEntries(Object.entries(given).filter(([, pem]) => pem !== undefined));
  try {
    // Here, since it would else be an exception in the middle of a handshake.
    createSecureContext(options);
  } catch (cause) {
    const message = `tls.ca, tls.cert and tls.key must be PEM texts that belong together: ${(cause as Error).message}`;
    throw new TensorwireError("INVALID_ARGUMENT", message, { cause });
  }
  return options;
}
