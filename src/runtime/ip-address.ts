/** Text of IP addresses to bytes, without Node. */

const GROUPS = 8;

function ipv4(text: string): number[] | undefined {
  const parts = text.split('.');
  if (parts.length !== 4 || !parts.every(part => /^(0|[1-9]\d{0,2})$/.test(part))) return undefined;
  const bytes = parts.map(Number);
  return bytes.every(byte => byte <= 255) ? bytes : undefined;
}

/** 16-bit groups; an IPv4 address may stand for the last two. */
function groups(text: string): number[] | undefined {
  if (text === '') return [];
  const parts = text.split(':');
  const result: number[] = [];
  for (const [index, part] of parts.entries()) {
    const tail = index === parts.length - 1 && part.includes('.') ? ipv4(part) : undefined;
    if (tail !== undefined) result.push(tail[0]! * 256 + tail[1]!, tail[2]! * 256 + tail[3]!);
    else if (/^[0-9a-f]{1,4}$/i.test(part)) result.push(Number.parseInt(part, 16));
    else return undefined;
  }
  return result;
}

/** @returns 4 or 16 bytes in network order; undefined for what is no address (zone names are none) */
export function parseAddress(text: string): Uint8Array | undefined {
  const short = ipv4(text);
  if (short !== undefined) return Uint8Array.from(short);
  const halves = text.split('::');
  if (halves.length > 2 || !text.includes(':')) return undefined;
  const head = groups(halves[0]!);
  const tail = halves.length === 2 ? groups(halves[1]!) : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = GROUPS - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  const all = [...head, ...new Array<number>(missing).fill(0), ...tail];
  return Uint8Array.from(all.flatMap(group => [group >> 8, group & 0xff]));
}
