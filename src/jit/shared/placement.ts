/** Where code may lie: what every owner of executable memory does alike. */

/** Code starts at a multiple of this: a cache line. */
export const CODE_ALIGNMENT = 64;
/** Of so many pieces of code one is followed by a line that is left free. */
const SPACED = 8;

/**
 * Bytes to be left free behind the `nth` piece of code. Programs of one length that lie one behind the other would else have all
 * their tail-call entries in every second line, or every fourth, and so in as few of the sets of the caches: hops over a
 * thousand small programs take 5 % longer then.
 */
export function spacing(length: number, nth: number): number {
  return length > CODE_ALIGNMENT && nth % SPACED === 0 ? CODE_ALIGNMENT : 0;
}
