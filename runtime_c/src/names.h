/* SPDX-License-Identifier: Apache-2.0
 *
 * Functions that the library's own files share have short names in the source and the prefix e8_i_ in the object files, so that a
 * static library cannot clash with the program that it is linked into. `.ci/build` finds a name that is missing here. */
#ifndef E8_NAMES_H
#define E8_NAMES_H

#define binary_int8_has e8_i_binary_int8_has
#define binary_int8_prepare e8_i_binary_int8_prepare
#define calibration_leader e8_i_calibration_leader
#define calibration_waits e8_i_calibration_waits
#define check_broadcast e8_i_check_broadcast
#define check_counts e8_i_check_counts
#define check_same_quantisation e8_i_check_same_quantisation
#define codes_to_real e8_i_codes_to_real
#define copy_elements e8_i_copy_elements
#define cpu_features e8_i_cpu_features
#define crc32c e8_i_crc32c
#define entropy_decode e8_i_entropy_decode
#define entropy_is_sound e8_i_entropy_is_sound
#define flat_root e8_i_flat_root
#define flat_verify_table e8_i_flat_verify_table
#define linear_check e8_i_linear_check
#define linear_code_bounds e8_i_linear_code_bounds
#define linear_decode e8_i_linear_decode
#define linear_find_limits e8_i_linear_find_limits
#define linear_keep e8_i_linear_keep
#define linear_open e8_i_linear_open
#define linear_prepare e8_i_linear_prepare
#define linear_requant_at e8_i_linear_requant_at
#define linear_rows e8_i_linear_rows
#define linear_run_rows e8_i_linear_run_rows
#define linear_scratch_layout e8_i_linear_scratch_layout
#define linear_thread_bytes e8_i_linear_thread_bytes
#define log_positive e8_i_log_positive
#define model_op e8_i_model_op
#define model_op_type e8_i_model_op_type
#define observer_merge_state e8_i_observer_merge_state
#define observer_quantile e8_i_observer_quantile
#define observer_read_state e8_i_observer_read_state
#define observer_state_is_sound e8_i_observer_state_is_sound
#define observer_widen e8_i_observer_widen
#define observer_write_state e8_i_observer_write_state
#define op_input e8_i_op_input
#define op_output e8_i_op_output
#define plan_is_sound e8_i_plan_is_sound
#define range_by_divergence e8_i_range_by_divergence
#define real_to_codes e8_i_real_to_codes
#define run_input e8_i_run_input
#define run_locate e8_i_run_locate
#define run_output e8_i_run_output
#define run_parallel e8_i_run_parallel
#define run_share e8_i_run_share
#define run_tasks e8_i_run_tasks
#define strided_begin e8_i_strided_begin
#define strided_broadcast e8_i_strided_broadcast
#define strided_collapse e8_i_strided_collapse
#define strided_copy e8_i_strided_copy
#define strided_next e8_i_strided_next
#define strided_of e8_i_strided_of
#define strided_space e8_i_strided_space
#define tensor_bytes e8_i_tensor_bytes
#define tensor_code e8_i_tensor_code
#define tensor_decode e8_i_tensor_decode
#define tensor_dims8 e8_i_tensor_dims8
#define tensor_is_float e8_i_tensor_is_float
#define tensor_is_quantised e8_i_tensor_is_quantised
#define tensor_is_sound e8_i_tensor_is_sound
#define tensor_same_shape e8_i_tensor_same_shape
#define transpose_block e8_i_transpose_block
#define type_bytes e8_i_type_bytes
#define window_check e8_i_window_check
#define window_decode e8_i_window_decode
#define window_edge_pixels e8_i_window_edge_pixels
#define window_lines e8_i_window_lines
#define window_pointers e8_i_window_pointers
#define winograd_fits e8_i_winograd_fits
#define winograd_run e8_i_winograd_run
#define winograd_thread_bytes e8_i_winograd_thread_bytes

#endif
