/* SPDX-License-Identifier: Apache-2.0 */
#include "edge8.h"

#ifndef E8_VERSION
#define E8_VERSION "0.1.0"
#endif

const char *e8_version(void)
{
    return E8_VERSION;
}

const char *e8_status_text(e8_status status)
{
    switch (status) {
    case E8_OK: return "success";
    case E8_ERR_ARGUMENT: return "an argument or input value cannot be used";
    case E8_ERR_FORMAT: return "the bytes are not a well-formed model";
    case E8_ERR_VERSION: return "the model was written for a newer runtime";
    case E8_ERR_CHECKSUM: return "the checksum does not match: the file is damaged";
    case E8_ERR_UNSUPPORTED: return "an operator, type or shape that this build does not have";
    case E8_ERR_LIMIT: return "the model demands more than the limits allow";
    case E8_ERR_ARENA: return "the arena is too small or not aligned to 64 bytes";
    case E8_ERR_STOPPED: return "the hook asked to stop";
    }
    return "unknown status";
}
