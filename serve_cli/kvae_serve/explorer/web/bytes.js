// Bytes embedded in the page: base64 text, gzip, SHA-256.

/** Return the bytes of a base64 text. */
export function fromBase64(text) {
  const binary = atob(text.trim());
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** Unpack gzip. */
export async function gunzip(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Return the SHA-256 as hex digits, or null where the browser refuses it (a page from plain http). */
export async function sha256(bytes) {
  if (!globalThis.crypto?.subtle) return null;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Return the text of an embedded block, or null. */
export function block(id) {
  return document.getElementById(id)?.textContent ?? null;
}

/** Return the unpacked bytes of an embedded block of base64 of gzip. */
export async function unpack(id) {
  return gunzip(fromBase64(block(id)));
}
