import { SwitchyardError } from '../errors.ts';

export type MapErrorCode =
  /** Creation: a size, count or flag that the type does not allow (EINVAL) or that is beyond its limits (E2BIG). */
  | 'invalid_spec'
  /** Creation: a map type that Switchyard does not have. */
  | 'unsupported_map_type'
  /** Creation: no room in the arena. */
  | 'out_of_memory'
  /** The key (or value) has not as many bytes as the map's keys (values). */
  | 'bad_key_size'
  | 'bad_value_size'
  /** noExist and the key is there. */
  | 'key_exists'
  /** exist, or delete, and the key is not there. */
  | 'no_such_key'
  /** Index of an array-like map not below max_entries. */
  | 'index_out_of_range'
  /** Update of a new key while the map holds max_entries elements. */
  | 'map_full'
  /** Unknown or contradictory flags, or an operation the type does not have. */
  | 'invalid_operation'
  /** Written although frozen or created BPF_F_RDONLY; read although created BPF_F_WRONLY. */
  | 'not_permitted'
  /** A program can't be named by raw bytes; the runtime's slot API takes programs. */
  | 'needs_program'
  /** An inner map can't be named by raw bytes; MapOfMaps.set takes maps. */
  | 'needs_map'
  /** A map that does not match the inner map definition of a map of maps. */
  | 'inner_mismatch'
  /** A program that does not match the owner of a prog array. */
  | 'owner_mismatch'
  /** A second consumer of what has one already; a map to be freed that is used. */
  | 'busy'
  /** Any use after dispose(). */
  | 'disposed';

/** Name of the errno that the kernel gives in the same situation. */
export type Errno =
  | 'EPERM'
  | 'EACCES'
  | 'ENOENT'
  | 'E2BIG'
  | 'EBADF'
  | 'EAGAIN'
  | 'ENOMEM'
  | 'EBUSY'
  | 'EEXIST'
  | 'EINVAL'
  | 'ENOSPC'
  | 'ERANGE'
  | 'EOVERFLOW'
  | 'EOPNOTSUPP'
  | 'ENOTSUPP';

/** Linux numbers (asm-generic/errno.h; ENOTSUPP is kernel-internal but bpf(2) returns it). */
export const ERRNO: Readonly<Record<Errno, number>> = {
  EPERM: 1,
  ENOENT: 2,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  EINVAL: 22,
  ENOSPC: 28,
  ERANGE: 34,
  EOVERFLOW: 75,
  EOPNOTSUPP: 95,
  ENOTSUPP: 524,
};

const NAMES = new Map(Object.entries(ERRNO).map(([name, number]) => [number, name as Errno]));

/** @param result -errno, as routines answer */
export function errnoName(result: bigint): Errno {
  return NAMES.get(Number(-result)) ?? 'EINVAL';
}

/** Every error of the maps room. */
export class MapError extends SwitchyardError<MapErrorCode> {
  readonly errno: Errno;

  constructor(
    code: MapErrorCode,
    errno: Errno,
    message: string,
    details: Readonly<Record<string, unknown>> = {},
    options?: ErrorOptions,
  ) {
    super(code, `${message} (${errno})`, { ...details, errno }, options);
    this.errno = errno;
  }
}
