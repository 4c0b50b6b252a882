import { SwitchyardError } from '../errors.ts';

export type CaptureErrorCode =
  /** The first bytes are no capture format that is read here. */
  | 'bad_magic'
  /** The file ends within a header, record or block. */
  | 'truncated'
  /** A length that can't be: beyond its block, absurdly large, or two copies that differ. */
  | 'bad_length'
  /** A packet names an interface that no block has described. */
  | 'bad_interface'
  /** An option that runs past its block or has the wrong size. */
  | 'bad_option'
  /** A version of the format that is not known. */
  | 'unsupported_version'
  /** A value that the format can't hold (writing). */
  | 'unrepresentable';

/** A capture that can't be read or written; `details.offset` is the byte offset in the file where there is one. */
export class CaptureError extends SwitchyardError<CaptureErrorCode> {}
