/**
 * A trusted BPF routine: the body of a helper or map operation, written once in BPF assembly (with the internal
 * instructions) and run by every backend. Arguments in r1-r5, result in r0, r6-r9 kept, own stack below r10.
 * Routines are not verified: they are part of Switchyard and may use real addresses freely.
 */
export interface Routine {
  readonly name: string;
  /** Assembler text, internal dialect. */
  readonly text: string;
}
