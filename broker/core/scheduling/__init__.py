"""Which call runs where and when: admission, dispatch, retries and deadlines."""
