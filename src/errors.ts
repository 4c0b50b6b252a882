/**
 * The base of every error that Switchyard throws on purpose.
 *
 * Each room derives one class from it and lists its codes as a union, so that a caller can switch over `code`
 * and read `details` without parsing text. The message says what was expected, what came, where, and what to do.
 */
export abstract class SwitchyardError<Code extends string = string> extends Error {
  /** Stable machine-readable cause, in snake_case. */
  readonly code: Code;
  /** The facts behind the message: offsets, names, limits. JSON-serialisable but for bigint. */
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: Code, message: string, details: Readonly<Record<string, unknown>> = {}, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
    this.details = details;
  }
}
