/** Placeholder until the object room is built. */
export interface Btf {
  readonly size: number;
}
