import { TensorwireError } from "@tensorwire/core";
import { isCertificateFault } from "./tls-options.js";

/**
 * What it means to whoever dials that there is no connection, and what to do where that is known. What a certificate is refused
 * for, trying again does not mend.
 * @param shown Where it leads, as it may be shown.
 */
export function dialFault(shown: string, cause: unknown): TensorwireError {
  // Of a name with several addresses each has an error of its own, and all of them together have no message.
  const { message, code = "" } = cause as NodeJS.ErrnoException;
  const reason = cause instanceof Error ? message || code : String(cause);
  const retry = isCertificateFault(cause) ? { retryable: false } : {};
  return new TensorwireError("CHANNEL_OPEN", `cannot reach ${shown}: ${reason}${advice(code)}`, {
    cause,
    ...retry,
  });
}

function advice(code: string): string {
  if (/SELF_SIGNED|UNABLE_TO_(?:GET|VERIFY)_/.test(code)) {
    return ": say who vouches for it with --tls-ca FILE (tls.ca); a self-signed certificate does so for itself";
  }
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") {
    return ": dial a name that it has, or say which one that is with --tls-servername NAME (tls.servername)";
  }
  return "";
}
