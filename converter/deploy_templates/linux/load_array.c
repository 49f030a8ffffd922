
static const void *load_model(const char *path, size_t *size)
{
    (void)path; /* the model is part of the program: model_data.c */
    *size = model_bytes;
    return model_data;
}
